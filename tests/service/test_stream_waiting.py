"""How a stream waits: for its client, for room in the queue, and never for more than it can answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bundle.operations import Method
from service import errors, operations
from service.engine.batcher import Batcher
from tests.service.programs import Program, rows_of
from tests.service.serving import ROWS, Served, assert_problem, serving

NDJSON = {"Content-Type": "application/x-ndjson"}
GOOD = b"[0, 0.25, 0.5, 1]"


async def test_a_stream_that_is_never_read_takes_a_few_pieces_and_no_more(models: Path) -> None:
    """By construction: an endless body, a client that takes no answer, and turns of the event loop until all rests."""
    taken = 0
    never = asyncio.Event()

    async def receive() -> dict[str, object]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": (GOOD + b"\n") * 8, "more_body": True}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await never.wait()

    program = Program()
    async with serving(models, program, max_batch_rows=8) as served:
        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/v1/models/tiny/encode",
            "query_string": b"",
            "headers": [(b"content-type", b"application/x-ndjson")],
            "root_path": "",
        }
        request = asyncio.create_task(served.app(scope, receive, send))
        batcher = served.repository.get("tiny").batcher
        while taken < 3 or sum(program.batches) < 1 + 2 * 8 or batcher.pending_rows:
            await asyncio.sleep(0)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert (taken, batcher.pending_rows) == (3, 0)
        assert sum(program.batches) == 1 + 2 * 8, "the trial and two batches"
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)


async def test_a_full_queue_makes_a_stream_wait_where_a_request_is_refused(models: Path) -> None:
    async with serving(models, Program(), max_rows=8, max_pending_rows=8, max_batch_rows=8) as served:
        full: list[asyncio.Task[httpx.Response]] = []

        async def body() -> AsyncIterator[bytes]:
            """Is asked for once the stream has begun."""
            served.program.hold()
            full.append(asyncio.create_task(served.post("tiny/encode", json={"inputs": ROWS * 4})))
            await served.program.entered()
            yield (GOOD + b"\n") * 100

        lines = asyncio.create_task(served.post("tiny/encode", content=body(), headers=NDJSON))
        while not full:
            await asyncio.sleep(0)
        await served.program.entered()
        for _ in range(100):  # turns of the event loop, after which the stream waits
            await asyncio.sleep(0)
        assert_problem(await served.post("tiny/encode", json={"inputs": ROWS}), errors.Overloaded)
        served.program.release()
        assert (await full[0]).status_code == 200
        *found, end = map(json.loads, (await lines).text.splitlines())
        assert end == {"done": True, "rows": 100}
        assert all(line["latent"] == [0, 0.25] for line in found)


async def test_a_pass_that_finds_the_queue_full_all_the_same_is_tried_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operation of two passes waits for room before the first alone."""
    score, calls = operations.anomaly_score, 0

    async def full_at_first(*arguments: Any, **named: Any) -> operations.Scored:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first is the trial on the probe
            raise errors.Overloaded("full")
        return await score(*arguments, **named)

    monkeypatch.setattr(operations, "anomaly_score", full_at_first)
    response = await served.post("tiny/anomaly-score", content=GOOD, headers=NDJSON)
    found, end = map(json.loads, response.text.splitlines())
    assert (calls, found["index"], end["rows"]) == (3, 0, 1)


async def test_those_who_wait_for_room_leave_half_of_the_queue_to_requests() -> None:
    program = Program()
    batcher = Batcher(program, max_batch_rows=2, max_pending_rows=8)
    program.hold()

    async def patient() -> None:
        await batcher.room(rows_of(1, 2))
        await batcher.submit(Method.ENCODE, rows_of(1, 2))

    waiting = [asyncio.create_task(patient()) for _ in range(10)]
    await program.entered()
    for _ in range(20):
        await asyncio.sleep(0)
    assert batcher.pending_rows == 4
    request = asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(1, 2, 3, 4)))
    await asyncio.sleep(0)
    assert batcher.pending_rows == 8
    program.release()
    await asyncio.gather(request, *waiting)
    await batcher.close(5)
    await batcher.room(rows_of(*range(1000)))  # returns: nothing is taken any more


@pytest.mark.parametrize("ends", ["closed", "broken"])
async def test_those_who_wait_for_room_hear_of_the_end(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(_: int) -> None:
        raise RuntimeError("a fault of the batcher itself")

    program = Program()
    batcher = Batcher(program, max_batch_rows=2, max_pending_rows=4)
    program.hold()
    first = asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(1, 2)))
    await program.entered()
    waiting = asyncio.create_task(batcher.room(rows_of(*range(4))))
    await asyncio.sleep(0)
    assert not waiting.done()
    if ends == "closed":
        closing = asyncio.create_task(batcher.close(5))
        await waiting
        program.release()
        await closing
    else:
        monkeypatch.setattr(batcher.queue, "take", fault)
        program.release()
        await waiting
        assert not batcher.alive
    await first
