"""Traces of real workers: those of each are sent, at the latest at its end, and no collector holds that up."""

import contextlib
import json
import shutil
import signal
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from benchmarks.collector import SERVER, Collector, collecting
from tests.e2e.conftest import Server, serving, wait_until_ready
from tests.e2e.test_workers import connect

pytestmark = pytest.mark.e2e
MODEL = "fashion-linear"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
BODY = json.dumps({"inputs": [[0.0] * 784]})
NEVER_MS = "3600000"
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@contextlib.contextmanager
def traced(shipped: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, url: str, *, workers: str) -> Iterator[Server]:
    """A ready server with one bundle, which would send spans in an hour."""
    shutil.copytree(shipped / MODEL, folder / MODEL)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", NEVER_MS)
    with serving(folder, workers=workers, log_level="error") as server:
        wait_until_ready(server.address)
        yield server


def post(client: HTTPConnection, number: int) -> None:
    """A request of the trace, called from span `number`."""
    client.request("POST", f"/v1/models/{MODEL}/encode", BODY, {"traceparent": f"00-{TRACE}-{number:016x}-01"})
    response = client.getresponse()
    response.read()
    assert response.status == 200


def end(server: Server) -> None:
    """SIGTERM is an orderly end, in good time."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=20) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_the_spans_of_each_worker_are_sent_at_its_end(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector, workers: int
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")  # it has spans of its own, of half of the requests
    with traced(shipped, tmp_path, monkeypatch, collector.url, workers=str(workers)) as server:
        clients = [connect(server) for _ in range(4)]
        for number, client in enumerate(clients * 2, start=1):
            post(client, number)
        assert not collector.asked.is_set()
        for client in clients:
            client.close()
        end(server)
    spans = collector.spans(requests=8)
    servers = [span for span in spans if span.kind == SERVER]
    assert {span.trace_id for span in spans} == {TRACE}
    assert [span.parent for span in servers] == [f"{number:016x}" for number in range(1, 9)]
    for own in servers:
        assert [span.name for span in spans if span.parent == own.span_id] == ["decode", "queue", "forward", "encode"]
    assert len({span.resource["service.instance.id"] for span in spans}) == workers
    assert {span.resource["service.name"] for span in spans} == {"diabolo"}


@pytest.mark.parametrize("silent", [True, False])
def test_a_dead_collector_holds_up_neither_requests_nor_the_end(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector, silent: bool
) -> None:
    collector.hold()
    url = collector.url if silent else NOBODY
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    with traced(shipped, tmp_path, monkeypatch, url, workers="2") as server:
        client = connect(server)
        for number in range(1, 50):
            post(client, number)
        client.close()
        end(server)
