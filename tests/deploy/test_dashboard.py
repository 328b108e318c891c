"""The dashboard as Grafana would be given it: Grafana itself is not run here."""

import itertools
import json
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.deploy.expressions import DASHBOARD, ROOT, read

PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
COLUMNS = 24
# Grafana knows these of Prometheus' data source; its general model of annotations and variables does not.
OF_PROMETHEUS = {
    ".annotations.list.titleFormat",
    ".annotations.list.textFormat",
    ".annotations.list.step",
    ".templating.list.definition",
}


@pytest.fixture
def dashboard() -> Any:
    """The file, as Grafana reads it."""
    return json.loads(DASHBOARD.read_text())


@pytest.fixture(scope="module")
def grafana() -> Any:
    """What docker-compose.yml says of Grafana."""
    return read(ROOT / "docker-compose.yml")["services"]["grafana"]


def changed(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Where the one has what the other has not, or has otherwise."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from changed(value, after.get(key), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from changed(one, other, path)
    elif before != after:
        yield path


def release(full: str) -> tuple[int, int]:
    """Major and minor: what Grafana's model of a dashboard belongs to."""
    major, minor, _ = full.split(".", 2)
    return int(major), int(minor)


def test_grafanas_own_model_of_a_dashboard_keeps_all_of_it(dashboard: Any) -> None:
    register_default_plugins()
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    assert set(changed(dashboard, kept)) == OF_PROMETHEUS
    dashboard["panels"][1]["options"]["graphmode"] = "area"
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))
    assert set(changed(dashboard, kept)) == {*OF_PROMETHEUS, ".panels.options.graphmode"}, "a misspelt name is lost"


def test_that_model_is_not_newer_than_the_grafana_that_is_run(grafana: Any) -> None:
    model = version("grafana-foundation-sdk").rpartition("!")[2]
    assert release(model) <= release(grafana["image"].rpartition(":")[2]), "Grafana reads older dashboards, not newer"


def test_every_panel_has_a_place_of_its_own(dashboard: Any) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [
        {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])} for at in places
    ]
    assert all(at["x"] >= 0 and at["x"] + at["w"] <= COLUMNS and at["w"] > 0 < at["h"] for at in places)
    assert not [pair for pair in itertools.combinations(cells, 2) if pair[0] & pair[1]]


def test_panels_and_their_queries_are_told_apart(dashboard: Any) -> None:
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert sorted(set(identifiers)) == sorted(identifiers)
    shown = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    for panel in shown:
        references = [target["refId"] for target in panel["targets"]]
        assert references, panel["title"]
        assert sorted(set(references)) == references, panel["title"]
        assert all(target["instant"] != target["range"] for target in panel["targets"])
        assert panel["title"], panel["id"]
        assert panel["description"], panel["title"]
    assert len({panel["title"] for panel in shown}) == len(shown)
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == ["Overview", "Queue and forward passes", "Bundles", "Anomalies and drift"]


def test_everything_asks_the_data_source_that_is_provisioned(dashboard: Any) -> None:
    (source,) = read(PROVISIONING / "datasources" / "prometheus.yml")["datasources"]
    asked = [*dashboard["panels"], *dashboard["templating"]["list"], *dashboard["annotations"]["list"]]
    asked += [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    named = [each["datasource"] for each in asked if each.get("type") != "row"]
    assert all(each == {"type": source["type"], "uid": source["uid"]} for each in named)
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in read(ROOT / "docker-compose.yml")["services"]


def test_every_query_of_a_metric_of_its_own_heeds_the_variables(dashboard: Any) -> None:
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["model", "instance"]
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            if "{{model}}" in target["legendFormat"]:
                assert 'model=~"$model"' in target["expr"], panel["title"]
            if "diabolo_" in target["expr"]:
                assert 'instance=~"$instance"' in target["expr"], panel["title"]


def test_the_files_are_where_the_container_looks_for_them(grafana: Any) -> None:
    (provider,) = read(PROVISIONING / "dashboards" / "diabolo.yml")["providers"]
    mounted = dict(volume.split(":")[:2] for volume in grafana["volumes"] if volume.startswith("./"))
    assert mounted == {
        "./deploy/grafana/provisioning": "/etc/grafana/provisioning",
        "./deploy/grafana/dashboards": provider["options"]["path"],
    }
    assert DASHBOARD.is_relative_to(ROOT / "deploy" / "grafana" / "dashboards")
