"""Traces, as a collector on loopback gets them: the tree of a request, its times, whose it is, and what went wrong."""

import asyncio
import io
import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from time import time_ns
from typing import Any

import pytest

from benchmarks.collector import SERVER, Collected, Collector, collecting
from service.logs import json_lines
from tests.service.clients import request
from tests.service.programs import Program
from tests.service.serving import ROWS, Served, serving
from tests.service.sockets import listening

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["decode", "queue", "forward", "encode"]
INTERNAL = 1
UNSET, ERROR = 0, 2


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """One that the variables name. Services wait for it at their end for longer than in production."""
    monkeypatch.setattr("service.app.FLUSH_SECONDS", 30)
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


def parent(trace: str = TRACE, *, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{CALLER}-{int(sampled):02x}"}


async def infer(served: Served, **arguments: Any) -> Any:
    tensor = {"name": "input", "shape": [2, 4], "datatype": "FP32", "data": ROWS}
    return await served.client.post("/v2/models/tiny/infer", json={"inputs": [tensor]}, **arguments)


async def test_a_request_is_a_span_with_one_for_each_stage(models: Path, collector: Collector) -> None:
    before = time_ns()
    async with serving(models) as served:
        await served.post("tiny/reconstruct", json={"inputs": ROWS}, headers={"X-Request-ID": "mine"})
        digest = served.repository.get("tiny").digest
    server, *stages = collector.spans(requests=1)
    assert (server.name, server.kind, server.parent) == ("POST /v1/models/{name}/reconstruct", SERVER, "")
    assert server.status == UNSET
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/models/{name}/reconstruct",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/v1/models/tiny/reconstruct",
        "network.protocol.version": "1.1",
        "server.address": "diabolo",
        "diabolo.request_id": "mine",
        "diabolo.model": "tiny",
        "diabolo.model_version": 2,
        "diabolo.model_digest": digest,
        "diabolo.operation": "reconstruct",
        "diabolo.rows": 2,
        "diabolo.passes": 1,
    }
    assert [stage.name for stage in stages] == STAGES
    assert {(stage.trace_id, stage.parent, stage.kind) for stage in stages} == {
        (server.trace_id, server.span_id, INTERNAL)
    }
    assert stages[2].attributes == {"diabolo.batch_size": 2, "diabolo.method": "reconstruct"}
    times = [before, server.start, *itertools.chain(*((stage.start, stage.end) for stage in stages)), server.end]
    assert times == sorted(times)
    assert server.end <= time_ns()


async def test_the_resource_says_who_we_are_unless_the_variables_do(
    models: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(models) as served:
        await served.get("/v1/models")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pumps")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.version=7,deployment.environment.name=hall")
    async with serving(models) as served:
        await served.get("/v1/models")
    ours, theirs = (span.resource for span in collector.spans(requests=2))
    assert ours["service.name"] == "diabolo"
    assert (theirs["service.name"], theirs["service.version"]) == ("pumps", "7")
    assert theirs["deployment.environment.name"] == "hall"
    assert ours["service.instance.id"] != theirs["service.instance.id"]


async def test_callers_traces_are_continued_on_every_way(models: Path, collector: Collector) -> None:
    """The short way, V2, and all middleware."""
    traces = [f"{number:032x}" for number in (1, 2, 3)]
    async with serving(models) as served:
        await served.post("tiny/encode", json={"inputs": ROWS}, headers=parent(traces[0]))
        await infer(served, headers=parent(traces[1]))
        await served.get("/v1/models/tiny", headers=parent(traces[2]))
    spans = collector.spans(requests=3)
    servers = [span for span in spans if span.kind == SERVER]
    assert [(span.trace_id, span.parent) for span in servers] == [(trace, CALLER) for trace in traces]
    assert [len([span for span in spans if span.trace_id == trace]) for trace in traces] == [5, 5, 1]
    assert servers[1].attributes["http.route"] == "/v2/models/{name}/infer"
    assert servers[1].attributes["diabolo.operation"] == "infer"


@pytest.mark.parametrize(
    ("sampler", "argument", "headers", "sampled"),
    [
        ("", "", parent(sampled=False), False),
        ("parentbased_traceidratio", "0", parent(), True),
        ("parentbased_traceidratio", "0", {}, False),
        ("parentbased_traceidratio", "1", {}, True),
        ("always_off", "", parent(), False),
        ("always_on", "", parent(sampled=False), True),
    ],
)
async def test_what_is_sampled_is_as_the_variables_and_the_caller_say(
    models: Path,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    argument: str,
    headers: dict[str, str],
    sampled: bool,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    async with serving(models) as served:
        await served.post("tiny/encode", json={"inputs": ROWS}, headers=headers)
    assert len(collector.spans(requests=int(sampled))) == 5 * sampled


async def test_requests_that_share_a_pass_say_so(models: Path, collector: Collector) -> None:
    program = Program()
    async with serving(models, program) as served:
        program.hold()
        first = asyncio.create_task(served.post("tiny/encode", json={"inputs": ROWS[:1]}))
        await program.entered()
        rest = [asyncio.create_task(served.post("tiny/encode", json={"inputs": ROWS})) for _ in range(2)]
        while served.repository.get("tiny").batcher.pending_rows < 5:
            await asyncio.sleep(0)
        program.release()
        await asyncio.gather(first, *rest)
    spans = collector.spans(requests=3)
    forwards = [span for span in spans if span.name == "forward"]
    assert [span.attributes["diabolo.batch_size"] for span in forwards] == [1, 4, 4]
    assert (forwards[1].start, forwards[1].end) == pytest.approx((forwards[2].start, forwards[2].end), abs=1e6)
    queues = [span for span in spans if span.name == "queue"]
    assert all(queue.end >= forwards[0].end for queue in queues[1:]), "they waited for the pass before"


async def test_a_request_of_several_passes_has_them_one_after_the_other(models: Path, collector: Collector) -> None:
    async with serving(models, max_batch_rows=2) as served:
        await served.post("tiny/encode", json={"inputs": [*ROWS, *ROWS, ROWS[0]]})
    server, *stages = collector.spans(requests=1)
    passes = [stage for stage in stages if stage.name in ("queue", "forward")]
    assert [stage.name for stage in passes] == ["queue", "forward"] * 3
    assert all(one.end <= next_one.start for one, next_one in itertools.pairwise(passes))
    assert [stage.attributes["diabolo.batch_size"] for stage in passes[1::2]] == [2, 2, 1]
    assert server.attributes["diabolo.passes"] == 3


async def test_streams_have_stages_for_each_batch(models: Path, collector: Collector) -> None:
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in [*ROWS, *ROWS])
    async with serving(models, max_batch_rows=2) as served:
        stream = {**parent(), "Content-Type": "application/x-ndjson"}
        response = await served.post("tiny/encode", content=lines, headers=stream)
        assert response.text.count("latent") == 4
    server, *stages = collector.spans(requests=1)
    assert (server.trace_id, server.parent, server.attributes["http.response.status_code"]) == (TRACE, CALLER, 200)
    counts = {name: len([stage for stage in stages if stage.name == name]) for name in STAGES}
    assert counts == {"decode": 2, "queue": 3, "forward": 3, "encode": 2}, "the parameters are tried on a row first"
    assert {(stage.parent, stage.status) for stage in stages} == {(server.span_id, UNSET)}
    assert server.end >= max(stage.end for stage in stages)


def failed(spans: list[Collected]) -> dict[str, tuple[int, Any]]:
    return {span.name: (span.status, span.attributes.get("error.type")) for span in spans}


async def test_errors_are_marked_where_they_were(models: Path, collector: Collector) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("secret")

    async with serving(models) as served:
        served.program.fails = fails
        response = await served.post("tiny/encode", json={"inputs": ROWS})
        assert response.status_code == 500
    server, *stages = collector.spans(requests=1)
    assert (server.status, server.attributes["error.type"]) == (ERROR, "internal-error")
    assert server.attributes["http.response.status_code"] == 500
    assert "url.path" not in server.attributes
    wanted = {"decode": (UNSET, None), "queue": (UNSET, None), "forward": (ERROR, "internal-error")}
    assert failed(stages) == wanted
    assert "secret" not in str(stages)


async def test_what_a_client_did_wrong_is_no_error_of_the_server(models: Path, collector: Collector) -> None:
    async with serving(models) as served:
        await served.post("tiny/encode", json={"inputs": [["secret"]]})
        await served.post("secret/encode", json={"inputs": ROWS})
        await served.get("/secret?secret=1")
        await served.client.request("SECRET", "/v1/models")
    spans = collector.spans(requests=4)
    servers = [span for span in spans if span.kind == SERVER]
    assert [span.status for span in servers] == [UNSET] * 4
    assert [span.attributes["http.response.status_code"] for span in servers] == [422, 404, 404, 405]
    assert [span.name for span in servers[2:]] == ["GET", "HTTP /v1/models"]
    assert servers[3].attributes["http.request.method"] == "_OTHER"
    assert failed([span for span in spans if span.kind == INTERNAL]) == {"decode": (ERROR, "invalid-content")}
    assert "secret" not in str(spans).lower()


async def test_a_deadline_that_passes_in_the_queue_shows_there(models: Path, collector: Collector) -> None:
    program = Program()
    async with serving(models, program) as served:
        program.hold()
        first = asyncio.create_task(served.post("tiny/encode", json={"inputs": ROWS}))
        await program.entered()
        late = await served.post("tiny/encode", json={"inputs": ROWS}, headers={"Request-Timeout-Ms": "5"})
        assert late.status_code == 504
        program.release()
        await first
    spans = collector.spans(requests=2)
    server = next(span for span in spans if span.attributes.get("http.response.status_code") == 504)
    assert (server.status, server.attributes["error.type"]) == (ERROR, "deadline-exceeded")
    mine = [span for span in spans if span.parent == server.span_id]
    assert failed(mine) == {"decode": (UNSET, None), "queue": (ERROR, "deadline-exceeded")}
    assert mine[1].end == server.end


async def test_who_has_gone_is_told_without_a_status(models: Path, collector: Collector) -> None:
    program = Program()
    async with serving(models, program) as served, listening(served.app) as port:
        program.hold()
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request())
        await program.entered()
        writer.transport.abort()
        while served.app.state.metrics.traffic.in_flight:
            await asyncio.sleep(0)
        program.release()
    server, *stages = collector.spans(requests=1)
    assert "http.response.status_code" not in server.attributes
    assert server.attributes["error.type"] == "client-gone"
    assert stages[-1].name == "forward"
    assert (stages[-1].status, stages[-1].end) == (ERROR, server.end)


async def test_probes_and_scrapes_have_no_spans_unless_the_variable_says_otherwise(
    models: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(models) as served:
        for path in ("/livez", "/readyz", "/metrics", "/v2/health/live"):
            await served.get(path)
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "metrics, ^http://diabolo:.*/v1/")
    async with serving(models) as served:
        for path in ("/livez", "/metrics", "/v1/models"):
            await served.get(path)
    assert [span.name for span in collector.spans(requests=1)] == ["GET /livez"]


async def test_lines_in_the_log_name_the_span(models: Path, collector: Collector) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(json_lines())
    access = logging.getLogger("diabolo.access")
    access.addHandler(handler)
    before = access.level
    access.setLevel(logging.INFO)
    try:
        async with serving(models) as served:
            await served.post("tiny/encode", json={"inputs": ROWS}, headers=parent())
            await served.post("tiny/encode", json={"inputs": ROWS}, headers=parent(sampled=False))
    finally:
        access.removeHandler(handler)
        access.setLevel(before)
    sampled, unsampled = (json.loads(line) for line in stream.getvalue().splitlines())
    (server, *_) = collector.spans(requests=1)
    assert (sampled["trace_id"], sampled["span_id"]) == (TRACE, server.span_id)
    assert (unsampled["trace_id"], unsampled["span_id"]) == (TRACE, CALLER)
