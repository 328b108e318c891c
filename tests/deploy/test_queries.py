"""Rules and dashboard ask for what a running service exposes: its names, its labels and their values, the edges of its
histograms. Grafana and Prometheus would answer anything else with nothing."""

import re
import shutil
from collections import defaultdict
from collections.abc import Mapping

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.monitoring.families import FAMILIES
from tests.deploy.expressions import ROOT, queries, rules, with_recorded
from tests.deploy.shapes import Shape, Unknown, shape_of
from tests.e2e.test_workers import two_workers

LABEL_OF_ALERT = re.compile(r"\$labels\.(\w+)")
LABEL_OF_LEGEND = re.compile(r"\{\{(\w+)\}\}")
SERIES: Mapping[str, Shape] = {
    "requests_total": {"route": frozenset({"/a", "/b"}), "status": frozenset({"200"})},
    "seconds_bucket": {"route": frozenset({"/a"}), "le": frozenset({"0.1", "+Inf"})},
    "replicas": {},
}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Shape]:
    """What Prometheus would have of a service with two workers, of which something has been asked."""
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(ROOT / "models" / "fashion-linear" / "1", models / "fashion-linear" / "1")
    refused = models / "fashion-linear" / "2"
    refused.mkdir()
    (refused / "manifest.json").write_text("{")
    # One connection, so one worker: another might not know yet what this one has been asked.
    with two_workers(models) as server, httpx.Client() as client:
        url = f"{server.address}/v1/models/fashion-linear/anomaly-score"
        row = [0.5] * 784
        for rows, headers, status in (
            ([row], {}, 200),
            ([[1.0]], {}, 422),
            ([row] * 512, {"Request-Timeout-Ms": "1"}, 504),
        ):
            assert client.post(url, json={"inputs": rows}, headers=headers).status_code == status
        text = client.get(f"{server.address}/metrics").text
    scraped: dict[str, dict[str, frozenset[str]]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            shape = scraped[sample.name]
            for label, value in sample.labels.items():
                shape[label] = shape.get(label, frozenset()) | {value}
    return with_recorded(scraped)


@pytest.mark.e2e
def test_every_rule_and_every_query_can_be_answered_by_a_running_service(series: Mapping[str, Shape]) -> None:
    for query in queries():
        shape = shape_of(query.expression, series)
        assert set(LABEL_OF_LEGEND.findall(query.legend)) <= set(shape), query
    for rule in rules():
        shape = shape_of(rule["expr"], series)
        named = set(LABEL_OF_ALERT.findall(str(rule.get("annotations"))))
        assert named <= {*shape, *rule.get("labels", {})}, rule


def test_whatever_is_measured_is_shown_or_judged() -> None:
    asked = " ".join([*(query.expression for query in queries()), *(rule["expr"] for rule in rules())])
    assert {name for name in FAMILIES if f"diabolo_{name}" not in asked} == set()


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("rate(request_total[5m])", "no metric is called request_total"),
        ('requests_total{code="200"}', "has no label code"),
        ('requests_total{status=~"5.."}', "nothing with"),
        ('requests_total{status!="200"}', "nothing with"),
        ('seconds_bucket{le="0.25"}', "nothing with"),
        ("sum by (code) (requests_total)", "no label code"),
        ("sum without (code) (requests_total)", "no label code"),
        ("histogram_quantile(0.9, sum by (route) (rate(seconds_bucket[5m])))", "no label le"),
        ("sum(rate(requests_total[5m])) / sum by (route) (rate(requests_total[5m]))", "only one side has"),
        ("requests_total / on (le) seconds_bucket", "no label le"),
        ("requests_total / ignoring (status) seconds_bucket", "only one side has"),
        ("requests_total > 1 and missing", "no metric is called missing"),
    ],
)
def test_what_prometheus_would_answer_with_nothing_is_noticed(expression: str, reason: str) -> None:
    with pytest.raises(Unknown, match=reason):
        shape_of(expression, SERIES)


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        ("0.99", set()),
        ("2 * -requests_total", {"route", "status"}),
        ('rate(requests_total{route=~"/[ab]",status!~"5.."}[5m])', {"route", "status"}),
        ("sum(requests_total) or vector(0)", set()),
        ("max_over_time(rate(requests_total[5m])[1h:1m])", {"route", "status"}),
        ("histogram_quantile(0.9, sum by (le, route) (rate(seconds_bucket[5m])))", {"route"}),
        ("sum without (status) (requests_total)", {"route"}),
        ("seconds_bucket / ignoring (le) group_left () sum by (route) (seconds_bucket)", {"route", "le"}),
        ("sum by (route) (requests_total) / on (route) sum by (route) (seconds_bucket)", {"route"}),
        ("seconds_bucket / ignoring (le) seconds_bucket", {"route"}),
        ("requests_total > on () group_left () replicas", {"route", "status"}),
        ("requests_total unless requests_total offset 15m", {"route", "status"}),
        ("requests_total or seconds_bucket", {"route", "status", "le"}),
        ("absent(requests_total == 1)", set()),
    ],
)
def test_an_expression_gives_the_labels_that_prometheus_would(expression: str, labels: set[str]) -> None:
    assert set(shape_of(expression, SERIES)) == labels
