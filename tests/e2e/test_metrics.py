"""One /metrics for all workers, over real sockets."""

import contextlib
import os
import signal
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.monitoring.shared import Share
from tests.e2e.conftest import Server
from tests.e2e.test_workers import connect, eventually, get, two_workers, workers

pytestmark = pytest.mark.e2e
LIVE = {"method": "GET", "route": "/livez", "status": "200"}


def scraped(server: Server, name: str, **labels: str) -> float:
    """The sum of the samples of this name with these labels, as any of the workers tells it."""
    families = text_string_to_metric_families(httpx.get(f"{server.address}/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_counts_are_exact_over_all_workers_and_survive_one_that_is_killed(tmp_path: Path) -> None:
    models, folder = tmp_path / "models", tmp_path / "metrics"
    models.mkdir()
    folder.mkdir()
    (folder / "worker-1-1.json").write_text('{"http_requests":[[["GET","/livez","200"],[1000]]]}')
    with two_workers(models, metrics_dir=str(folder)) as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(contextlib.closing(connect(server))) for _ in range(6)]
            assert {get(client) for client in clients * 7} == {200}
        requests = "diabolo_http_requests_total"
        eventually(lambda: scraped(server, requests, **LIVE) == 42)
        assert scraped(server, "diabolo_http_request_duration_seconds_count", route="/livez") == 42
        assert scraped(server, "diabolo_workers") == 2
        assert scraped(server, "diabolo_build_info") == 1
        assert scraped(server, "diabolo_workers_ended_total") == 0
        victim, _ = workers(server)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in workers(server) and len(workers(server)) == 2)
        eventually(lambda: scraped(server, "diabolo_workers") == 2)
        assert scraped(server, requests, **LIVE) == 42
        assert scraped(server, "diabolo_workers_ended_total") == 1
        eventually(lambda: scraped(server, "diabolo_http_requests_in_flight") == 1)  # the scrape itself
        with contextlib.closing(connect(server)) as client:
            assert get(client) == 200
        eventually(lambda: scraped(server, requests, **LIVE) == 43)
        assert len(list(folder.glob("worker-*.json"))) == 2
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert Share(folder).all().values["workers_ended"] == {(): [1]}, "those that were asked to end do not count"


def test_the_folder_that_a_killed_service_has_left_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, place = tmp_path / "models", tmp_path / "tmp"
    models.mkdir()
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    with two_workers(models) as server:
        (left,) = place.glob("diabolo-metrics-*")
        server.process.kill()
        server.process.wait()
        assert left.exists()
    with two_workers(models) as server:
        assert not left.exists()
        assert scraped(server, "diabolo_workers") == 2
        server.process.terminate()
        assert server.process.wait(30) == 0
    assert list(place.iterdir()) == []
