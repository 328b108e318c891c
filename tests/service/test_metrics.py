"""GET /metrics in one process: what is counted, under which labels, and what never becomes one."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.engine.tally import P_EDGES
from service.monitoring.families import FAMILIES
from tests.bundle_factory import publish
from tests.service.serving import ROWS, Served, serving

Labels = dict[str, str]


class Scraped:
    """What one scrape found."""

    def __init__(self, text: str) -> None:
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        wanted = labels.items()
        return sum(found.value for found in self.samples if found.name == name and wanted <= found.labels.items())

    def labels(self, name: str) -> list[Labels]:
        """Those of each sample of this name."""
        return [sample.labels for sample in self.samples if sample.name == name]


async def scraped(served: Served) -> Scraped:
    response = await served.get("/metrics")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return Scraped(response.text)


async def test_each_request_counts_once_under_its_route_and_status(models: Path) -> None:
    async with serving(models) as served:
        for _ in range(3):
            await served.post("tiny/reconstruct", json={"inputs": ROWS})
        await served.post("tiny/versions/1/reconstruct", json={"inputs": ROWS})
        await served.post("tiny/reconstruct", json={"inputs": [[1]]})
        await served.get("/v1/models/tiny")
        found = await scraped(served)
    route = "/v1/models/{name}/reconstruct"
    requests = "diabolo_http_requests_total"
    assert found(requests, method="POST", route=route, status="200") == 3
    assert found(requests, method="POST", route=route, status="422") == 1
    assert found(requests, route="/v1/models/{name}/versions/{version}/reconstruct", status="200") == 1
    assert found(requests, method="GET", route="/v1/models/{name}") == 1
    assert found("diabolo_http_request_duration_seconds_count", method="POST", route=route) == 4
    assert found("diabolo_rejected_requests_total", reason="invalid-content") == 1
    assert found("diabolo_batch_size_count", model="tiny") == found("diabolo_queue_wait_seconds_count") == 4
    assert found("diabolo_batch_size_sum", model="tiny") == 8
    assert found("diabolo_inference_duration_seconds_count", model="tiny", operation="reconstruct") == 4
    assert found("diabolo_stage_duration_seconds_count", model="tiny", stage="encode") == 4
    assert found("diabolo_http_requests_in_flight") == 1, "the scrape itself"


async def test_what_clients_write_never_becomes_a_label(models: Path) -> None:
    async with serving(models) as served:
        for word in ("secret", "secret2"):
            await served.post(f"{word}/reconstruct", json={"inputs": ROWS})
            await served.post(f"tiny/versions/{word}/reconstruct", json={"inputs": ROWS})
            await served.get(f"/{word}?{word}")
            await served.client.request(word.upper(), "/v1/models")
            await served.client.post(f"/v2/models/{word}/infer", json={})
        found = await scraped(served)
        text = (await served.get("/metrics")).text
    assert "secret" not in text.lower()
    assert found("diabolo_http_requests_total", method="none", route="/v1/models", status="405") == 2
    assert found("diabolo_http_requests_total", method="GET", route="none", status="404") == 2
    assert found("diabolo_rejected_requests_total", reason="unknown-model") == 4


async def test_p_values_are_counted_at_fixed_edges_and_only_those_of_clients(models: Path) -> None:
    async with serving(models) as served:
        before = await scraped(served)
        answers = []
        for rows, policy in ((ROWS, {}), (ROWS[:1], {}), ([*ROWS, [9.0, -9.0, 9.0, -9.0]], {"threshold": -1.0})):
            answers.append((await served.post("tiny/anomaly-score", json={"inputs": rows, **policy})).json())
        lines = b"[0, 0.25, 0.5, 1]\n"
        stream = await served.post(
            "tiny/anomaly-score", content=lines, headers={"Content-Type": "application/x-ndjson"}
        )
        assert stream.status_code == 200
        found = await scraped(served)
    values = [value for answer in answers for value in answer["p_values"]]
    name = "diabolo_anomaly_p_value"
    assert before(f"{name}_count") == 0
    assert found(f"{name}_count", model="tiny", version="2") == found(f"{name}_count") == len(values) + 1
    for edge in P_EDGES:
        wanted = sum(value <= edge for value in [*values, answers[1]["p_values"][0]])
        assert found(f"{name}_bucket", model="tiny", version="2", le=str(edge)) == wanted, edge
    assert [sum(answer["is_anomaly"]) for answer in answers] == [0, 0, 3]
    assert found("diabolo_anomalies_total", model="tiny") == 3


async def test_bundles_are_told_and_what_they_counted_outlives_them(root: Path) -> None:
    publish(root)
    (root / "bad" / "1").mkdir(parents=True)
    (root / "bad" / "1" / "manifest.json").write_text("{")
    async with serving(root) as served:
        await served.post("tiny/reconstruct", json={"inputs": ROWS})
        found = await scraped(served)
        (info,) = found.labels("diabolo_model_info")
        model = served.repository.get("tiny")
        assert (info["model"], info["version"], info["digest"]) == ("tiny", "1", model.digest)
        assert found("diabolo_model_ready", model="tiny") == 1
        assert {"model": "bad"} in found.labels("diabolo_model_ready")
        assert found("diabolo_model_ready", model="bad") == 0
        assert found("diabolo_model_reloads_total", model="tiny", result="loaded") == 1
        assert found("diabolo_model_reloads_total", model="bad", result="refused") == 1
        assert found("diabolo_refused_bundles_total") == 1
        assert found("diabolo_selftest_max_abs_error") == model.golden_error
        assert found("diabolo_model_load_duration_seconds") == pytest.approx(model.load_seconds)
        assert found("diabolo_build_info") == found("diabolo_workers") == 1
        assert found("diabolo_workers_ended_total") == 0
        assert model.manifest.calibration is not None
        assert found("diabolo_calibration_size", model="tiny", version="1") == model.manifest.calibration.size

        (root / "tiny" / "1").rename(root / "tiny" / ".1")
        await served.repository.refresh()
        found = await scraped(served)
        assert found.labels("diabolo_model_info") == []
        assert found("diabolo_batch_size_count", model="tiny") == 1
        (root / "tiny" / ".1").rename(root / "tiny" / "1")
        await served.repository.refresh()
        await served.post("tiny/reconstruct", json={"inputs": ROWS})
        found = await scraped(served)
        assert found("diabolo_batch_size_count", model="tiny") == 2
        assert found("diabolo_model_reloads_total", model="tiny", result="loaded") == 2


async def test_what_is_under_way_and_who_had_gone_are_told(models: Path) -> None:
    async with serving(models) as served:
        served.program.hold()
        waiting = asyncio.create_task(served.post("tiny/reconstruct", json={"inputs": ROWS}))
        await served.program.entered()
        found = await scraped(served)
        assert found("diabolo_queue_depth", model="tiny") == 2
        assert found("diabolo_http_requests_in_flight") == 2
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        served.program.release()
        found = await scraped(served)
    assert found("diabolo_http_requests_in_flight") == 1
    assert found("diabolo_http_requests_total", status="499") == 1


async def test_open_metrics_is_given_where_it_is_preferred(models: Path) -> None:
    async with serving(models) as served:
        response = await served.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


async def test_every_family_is_told_even_before_anything_happened(root: Path) -> None:
    async with serving(root) as served:
        text = (await served.get("/metrics")).text
    assert [name for name in FAMILIES if f"# HELP diabolo_{name}" not in text] == []


async def test_nothing_is_counted_where_that_is_unwanted(models: Path) -> None:
    async with serving(models, metrics=False) as served:
        assert (await served.post("tiny/reconstruct", json={"inputs": ROWS})).status_code == 200
        assert (await served.get("/metrics")).status_code == 404
        assert not served.app.state.metrics.traffic.seconds


async def test_numbers_are_put_together_without_reading_what_is_known_of_the_package(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That happens four times a second, and would take longer than all the rest."""
    async with serving(models) as served:
        monkeypatch.setattr("service.monitoring.metrics.version", lambda _: 1 / 0)
        assert (await scraped(served))("diabolo_build_info") == 1


async def test_a_bug_counts_as_what_was_answered(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(models) as served:
        monkeypatch.setattr(served.repository, "get", lambda *_: 1 / 0)
        assert (await served.post("tiny/reconstruct", json={"inputs": ROWS})).status_code == 500
        assert (await served.get("/v1/models/tiny")).status_code == 500
        found = await scraped(served)
    assert found("diabolo_http_requests_total", status="500", route="/v1/models/{name}/reconstruct") == 1
    assert found("diabolo_http_requests_total", status="500", route="/v1/models/{name}") == 1
