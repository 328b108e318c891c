"""The expressions of deploy/, as Prometheus would get them."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.deploy.shapes import Shape, shape_of

__all__ = ["DASHBOARD", "HAPROXY", "PROMETHEUS", "ROOT", "Query", "queries", "read", "rules", "with_recorded"]

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "diabolo.json"
# Of HAProxy's own exporter, what rules ask for; `make docker-test` looks whether the proxy has it.
HAPROXY = {
    "haproxy_frontend_http_responses_total": ("proxy", "code"),
    "haproxy_server_http_responses_total": ("proxy", "server", "code"),
}
HAPROXY_VALUES = {"proxy": {"api", "service"}, "server": {"replica1"}, "code": {"2xx", "5xx"}}
# What Grafana puts in place of its variables where all is chosen.
VARIABLES = {"$__rate_interval": "5m", "$model": ".*", "$instance": ".*"}


class Query(NamedTuple):
    """A query of the dashboard."""

    panel: str
    expression: str
    legend: str


def read(path: Path) -> Any:
    """What the file of YAML holds."""
    return yaml.safe_load(path.read_text())


def rules() -> Iterator[Mapping[str, Any]]:
    """Every rule, in the order in which they can depend on each other."""
    for group in read(PROMETHEUS / "rules.yml")["groups"]:
        yield from group["rules"]


def queries() -> Iterator[Query]:
    """Every query of the dashboard, those of its annotations included."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield Query(panel["title"], _filled(target["expr"]), target["legendFormat"])
    for annotation in dashboard["annotations"]["list"]:
        yield Query(
            annotation["name"], _filled(annotation["expr"]), annotation["titleFormat"] + annotation["textFormat"]
        )


def with_recorded(scraped: Mapping[str, Shape]) -> Mapping[str, Shape]:
    """What Prometheus has where it scrapes these series: its own, those that rules record, alerts. Raises Unknown."""
    series = {
        name: {**shape, "job": frozenset({"diabolo"}), "instance": frozenset({"a"})} for name, shape in scraped.items()
    }
    for name, labels in HAPROXY.items():
        of_proxy = {label: frozenset(HAPROXY_VALUES[label]) for label in labels}
        series[name] = {**of_proxy, "job": frozenset({"proxy"}), "instance": frozenset({"a"})}
    series["up"] = {"job": frozenset({"diabolo", "prometheus", "proxy"}), "instance": frozenset({"a"})}
    alerts: dict[str, frozenset[str]] = {"alertstate": frozenset({"pending", "firing"})}
    for rule in rules():
        shape = dict(shape_of(rule["expr"], series))
        shape |= {label: frozenset({value}) for label, value in rule.get("labels", {}).items()}
        if "record" in rule:
            _add(series.setdefault(rule["record"], {}), shape)
        else:
            _add(alerts, {**shape, "alertname": frozenset({rule["alert"]})})
    return {**series, "ALERTS": alerts}


def _add(shape: dict[str, frozenset[str]], other: Shape) -> None:
    for label, values in other.items():
        shape[label] = shape.get(label, frozenset()) | values


def _filled(expression: str) -> str:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert not re.search(r"\$\w", expression), f"a variable that the dashboard does not have: {expression}"
    return expression
