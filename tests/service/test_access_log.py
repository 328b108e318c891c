"""A line for each request: what it says, what it never says, and who has none."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.api.access_log import AccessLog
from service.logs import json_lines
from tests.key_files import KEY, write_keys
from tests.service.serving import ROWS, Served, serving

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
ROUTE = "/v1/models/{name}/reconstruct"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(json_lines())
    root = logging.getLogger("diabolo")
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def requests(log: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["logger"] == "diabolo.access"]


async def ask(served: Served, *, trace: str = f"00-{TRACE}-{CALLER}-01", **fields: str) -> None:
    headers = {"traceparent": trace, "X-Request-ID": "mine", **fields}
    await served.post("tiny/reconstruct", json={"inputs": ROWS}, headers=headers)


async def test_a_line_says_what_was_asked_and_how_that_ended(models: Path, log: io.StringIO) -> None:
    async with serving(models) as served:
        await ask(served)
        digest = served.repository.get("tiny").digest
    (line,) = requests(log)
    assert line.pop("timestamp").endswith("Z")
    queue, infer, whole = (line.pop(f"{name}_s") for name in ("queue", "infer", "duration"))
    assert 0 < queue + infer <= whole < 60
    assert line.pop("process")
    assert "mine" in line.pop("message")
    assert line == {
        "level": "info",
        "logger": "diabolo.access",
        "request_id": "mine",
        "trace_id": TRACE,
        "span_id": CALLER,
        "http.request.method": "POST",
        "http.route": ROUTE,
        "http.response.status_code": 200,
        "model": "tiny",
        "model_version": 2,
        "model_digest": digest,
        "operation": "reconstruct",
        "rows": 2,
        "batch_size": 2,
    }


async def test_rows_that_shared_a_pass_say_how_large_it_was(models: Path, log: io.StringIO) -> None:
    async with serving(models) as served:
        served.program.hold()
        first = asyncio.create_task(ask(served))
        await served.program.entered()
        others = [asyncio.create_task(ask(served)) for _ in range(2)]
        while served.repository.get("tiny").batcher.pending_rows < 6:
            await asyncio.sleep(0)
        served.program.release()
        await asyncio.gather(first, *others)
    lines = requests(log)
    assert [line["batch_size"] for line in lines] == [2, 4, 4]
    assert all(0 < line["queue_s"] <= line["duration_s"] for line in lines)


async def test_a_stream_has_one_line_with_all_its_rows_and_passes(models: Path, log: io.StringIO) -> None:
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in [*ROWS, *ROWS, ROWS[0]])
    async with serving(models, max_batch_rows=2) as served:
        await served.post("tiny/encode", content=lines, headers={"Content-Type": "application/x-ndjson"})
    (line,) = requests(log)
    assert (line["model"], line["operation"], line["rows"], line["batch_size"]) == ("tiny", "encode", 5, 2)
    assert 0 < line["queue_s"] + line["infer_s"] <= line["duration_s"]


async def test_who_was_in_no_pass_has_no_times_of_one(models: Path, log: io.StringIO) -> None:
    async with serving(models) as served:
        await served.post("tiny/reconstruct", json={"inputs": [[1]]})
        await served.get("/v1/models/tiny")
    assert not [line for line in requests(log) if {"queue_s", "infer_s", "batch_size"} & set(line)]


async def test_bundle_operation_and_rows_are_told(models: Path, log: io.StringIO) -> None:
    async with serving(models) as served:
        await served.post("tiny/reconstruct", json={"inputs": ROWS})
        tensor = {"name": "input", "shape": [2, 4], "datatype": "FP32", "data": ROWS}
        await served.client.post("/v2/models/tiny/infer", json={"inputs": [tensor]})
    told = [(line["model"], line["model_version"], line["operation"], line["rows"]) for line in requests(log)]
    assert told == [("tiny", 2, "reconstruct", 2), ("tiny", 2, "infer", 2)]


@pytest.mark.parametrize("trace", ["", "junk", f"00-{'0' * 32}-{CALLER}-01", f"00-{TRACE}-{'0' * 16}-01"])
async def test_no_trace_is_made_of_what_is_none(models: Path, log: io.StringIO, trace: str) -> None:
    async with serving(models) as served:
        await ask(served, trace=trace)
    (line,) = requests(log)
    assert not {"trace_id", "span_id"} & set(line)


async def test_no_line_has_bodies_keys_paths_or_queries(models: Path, tmp_path: Path, log: io.StringIO) -> None:
    keys = write_keys(tmp_path / "keys.json")
    async with serving(models, api_keys_file=keys) as served:
        key = {"X-API-Key": KEY}
        await served.post("tiny/encode?secret=secret", json={"inputs": [["secret"]]}, headers=key)
        await served.post("secret/encode", json={"inputs": ROWS}, headers=key)
        await served.get("/secret", headers=key)
        await served.client.request("SECRET", "/v1/models", headers=key)
        await served.post("tiny/encode", json={"inputs": ROWS}, headers={"X-API-Key": "secret"})
        await served.post("tiny/encode", json={"inputs": ROWS}, headers=key)
    lines = requests(log)
    assert len(lines) == 6
    assert "secret" not in log.getvalue().lower()
    assert KEY not in log.getvalue()
    assert lines[-1]["client_key_id"] == "test"
    assert [line.get("refused") for line in lines[:2]] == ["invalid-content", "unknown-model"]


async def test_probes_and_scrapes_have_no_line_while_they_succeed(models: Path, log: io.StringIO) -> None:
    async with serving(models) as served:
        for path in ("/livez", "/readyz", "/metrics", "/v2/health/live"):
            assert (await served.get(path)).status_code == 200
        served.app.state.draining = True
        assert (await served.get("/readyz")).status_code == 503
    assert [line["http.route"] for line in requests(log)] == ["/readyz"]


async def test_failures_are_logged_whatever_the_share(
    models: Path, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(models, log_share=0) as served:
        await ask(served)
        monkeypatch.setattr(served.repository, "get", lambda *_: 1 / 0)
        await ask(served)
    (line,) = requests(log)
    assert (line["level"], line["http.response.status_code"]) == ("warning", 500)


def test_a_share_of_the_rest_and_up_to_ten_slow_ones_a_second_are_logged(log: io.StringIO) -> None:
    draws, clock = iter([0.2, 0.3, 0.3, 0.24]), iter([10.0, 10.09, 10.11])
    access = AccessLog(share=0.25, slow_seconds=1, draw=draws.__next__, clock=clock.__next__)
    scope: dict[str, Any] = {"headers": []}
    for seconds in (0.1, 0.2, 1.5, 1.6, 1.7, 0.3):
        access.ended(scope, "GET", "/", status=200, seconds=seconds)
    assert [(line["duration_s"], line["level"]) for line in requests(log)] == [
        (0.1, "info"),
        (1.5, "warning"),
        (1.7, "warning"),
        (0.3, "info"),
    ]


def test_of_refusals_for_want_of_room_or_time_one_a_second_is_a_warning(log: io.StringIO) -> None:
    clock = iter([10.0, 10.9, 11.0, 11.5])
    access = AccessLog(share=0, slow_seconds=0.5, clock=clock.__next__)
    for number, status in enumerate((503, 504, 503, 500, 503), start=1):
        access.ended({"headers": []}, "GET", "/", status=status, seconds=number)
    assert [(line["duration_s"], line["level"]) for line in requests(log)] == [
        (1, "warning"),
        (3, "warning"),
        (4, "warning"),
    ]


def test_an_exception_is_one_line_too(log: io.StringIO) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("diabolo").exception("it failed for %s", Path("/x"))
    (line,) = log.getvalue().splitlines()
    found = json.loads(line)
    assert (found["level"], found["message"]) == ("error", "it failed for /x")
    assert "ValueError: first\nsecond" in found["exception"]


async def test_slow_requests_are_warnings(models: Path, log: io.StringIO) -> None:
    for log_slow_ms, level in ((60_000, "info"), (0.001, "warning")):
        async with serving(models, log_slow_ms=log_slow_ms) as served:
            await ask(served)
        assert requests(log)[-1]["level"] == level
