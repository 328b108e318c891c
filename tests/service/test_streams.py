"""Streams over real sockets: answers come while the body does, nobody waits for a neighbour, and every end is told."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from service import errors
from tests.service.programs import Program
from tests.service.serving import ROWS, Served, serving
from tests.service.sockets import Stream, listening

LINE = b"[0, 0.25, 0.5, 1]\n"
BATCH = 16
DONE = {"done": True}


@pytest.fixture
async def served(models: Path) -> AsyncIterator[Served]:
    """The app with a program of its own, which tests hold up."""
    async with serving(models, Program(), max_batch_rows=BATCH) as app:
        yield app


@pytest.fixture
async def port(served: Served) -> AsyncIterator[int]:
    """Where the app listens."""
    async with listening(served.app) as number:
        yield number


async def test_a_line_is_answered_before_the_next_is_sent(port: int) -> None:
    async with Stream.open(port, "tiny/encode") as stream:
        for index in range(5):
            await stream.send(b"[%d, 0, 0, 0]\n" % index)
            if index == 0:
                assert await stream.head() == 200
            answer = await stream.line()
            assert (answer["index"], answer["latent"]) == (index, [index, 0])
        await stream.end()
        assert await stream.lines() == [DONE | {"rows": 5}]


async def test_the_answer_begins_before_the_first_line_is_sent(port: int) -> None:
    async with Stream.open(port, "tiny/encode") as stream:
        assert await stream.head() == 200
        assert stream.fields["content-type"] == "application/x-ndjson"
        await stream.send(LINE)
        assert (await stream.line())["latent"] == [0, 0.25]


async def test_a_client_that_waits_for_100_continue_is_told_first(port: int) -> None:
    async with Stream.open(port, "tiny/encode", Expect="100-continue") as stream:
        assert await stream.head() == 100
        assert await stream.head() == 200
        await stream.send(LINE)
        await stream.end()
        assert len(await stream.lines()) == 2


async def test_a_body_of_known_length_is_streamed_too(port: int) -> None:
    fields = {"Transfer_Encoding": "", "Content_Length": str(2 * len(LINE))}
    async with Stream.open(port, "tiny/encode", **fields) as stream:
        await stream.send_plain(LINE)
        assert await stream.head() == 200
        assert (await stream.line())["index"] == 0
        await stream.send_plain(LINE)
        assert [line.get("index", "end") for line in await stream.lines()] == [1, "end"]


async def test_a_compressed_line_is_answered_as_soon_as_it_is_flushed(port: int) -> None:
    packer = zlib.compressobj(wbits=31)
    async with Stream.open(port, "tiny/encode", Content_Encoding="gzip") as stream:
        for index in range(3):
            await stream.send(packer.compress(LINE) + packer.flush(zlib.Z_SYNC_FLUSH))
            if index == 0:
                assert await stream.head() == 200
            assert (await stream.line())["index"] == index
        await stream.send(packer.flush())
        await stream.end()
        assert await stream.lines() == [DONE | {"rows": 3}]


async def test_a_client_that_reads_nothing_halts_itself_alone_and_may_go_on(models: Path) -> None:
    rows, at_once = 80_000, 1000
    sent = 0

    async def send_all(stream: Stream) -> None:
        nonlocal sent
        for _ in range(rows // at_once):
            await stream.send(LINE * at_once)
            sent += at_once
        await stream.end()

    async with (
        serving(models, Program()) as served,
        listening(served.app) as port,
        Stream.open(port, "tiny/reconstruct") as stream,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as neighbour,
    ):
        sending = asyncio.create_task(send_all(stream))
        before, unmoved = -1, 0
        while unmoved < 20:
            unmoved = unmoved + 1 if before == sent else 0
            before = sent
            assert (await neighbour.post("/v1/models/tiny/encode", json={"inputs": ROWS})).status_code == 200
        assert not sending.done()
        assert sent < rows
        assert served.repository.get("tiny").batcher.pending_rows == 0, "its answers wait for it, nothing else does"
        assert await stream.head() == 200
        lines = await stream.lines()
        await sending
        assert lines[-1] == DONE | {"rows": rows}
        assert [line["index"] for line in lines[:-1]] == list(range(rows))


async def test_what_a_client_sent_before_it_left_is_not_worked_through(served: Served) -> None:
    async with listening(served.app) as port:
        async with Stream.open(port, "tiny/encode") as stream:
            assert await stream.head() == 200
            served.program.hold()
            served.program.batches.clear()
            await stream.send(LINE * 3 * BATCH)
            await served.program.entered()
            await stream.send(LINE * 100 * BATCH)
        for _ in range(100):  # turns of the event loop, in which the server learns of it
            await asyncio.sleep(0)
        served.program.release()
    assert served.repository.get("tiny").batcher.pending_rows == 0
    assert sum(served.program.batches) <= 3 * BATCH, "what had been read when it left, at the most"


async def test_a_service_that_stops_answers_what_has_begun_and_says_why_it_ends(served: Served, port: int) -> None:
    async with Stream.open(port, "tiny/encode") as stream, Stream.open(port, "tiny/encode") as idle:
        assert await idle.head() == 200
        assert await stream.head() == 200
        served.program.hold()
        await stream.send(LINE)
        await served.program.entered()
        served.app.state.stopping.set()
        (end,) = await idle.lines()
        assert end["problem"]["type"] == "/problems/draining"
        served.program.release()
        answer, end = await stream.lines()
        assert answer["latent"] == [0, 0.25]
        assert set(end) == {"problem"}
        assert end["problem"]["retry_after_s"] in {1, 2}
    response = await served.post("tiny/encode", content=LINE, headers={"Content-Type": "application/x-ndjson"})
    assert response.status_code == errors.Draining.status
    assert response.json()["type"] == "/problems/draining"


async def test_a_bundle_that_is_taken_away_ends_its_streams(served: Served, port: int) -> None:
    async with Stream.open(port, "tiny/encode") as stream:
        assert await stream.head() == 200
        await stream.send(LINE)
        assert (await stream.line())["index"] == 0
        await served.repository.get("tiny").batcher.close(5)
        await stream.send(LINE * 3 * BATCH)
        (end,) = await stream.lines()
        assert end["problem"]["type"] == "/problems/draining"
        assert "index" not in end


@pytest.mark.parametrize("damage", ["cut short", "broken"])
async def test_a_damaged_compressed_stream_is_answered_up_to_there(port: int, damage: str) -> None:
    packer = zlib.compressobj(wbits=31)
    whole = packer.compress(LINE) + packer.flush(zlib.Z_SYNC_FLUSH)
    async with Stream.open(port, "tiny/encode", Content_Encoding="gzip") as stream:
        await stream.send(whole)
        assert await stream.head() == 200
        assert (await stream.line())["index"] == 0
        if damage == "broken":
            await stream.send(b"\xff" * 20)
        await stream.end()
        (end,) = await stream.lines()
        assert end["problem"]["type"] == "/problems/malformed-body"


async def test_compressed_parts_that_follow_one_another_are_one_stream(port: int) -> None:
    async with Stream.open(port, "tiny/encode", Content_Encoding="gzip") as stream:
        await stream.send(gzip.compress(LINE), gzip.compress(LINE) + gzip.compress(LINE)[:7], gzip.compress(LINE)[7:])
        await stream.end()
        assert await stream.head() == 200
        assert (await stream.lines())[-1] == DONE | {"rows": 3}


async def test_a_bomb_is_one_line_that_is_too_long(port: int) -> None:
    bomb = gzip.compress(b"1" * 10**8) + gzip.compress(b"\n" + LINE)
    async with Stream.open(port, "tiny/encode", Content_Encoding="gzip") as stream:
        await stream.send(bomb)
        await stream.end()
        assert await stream.head() == 200
        bad, good, end = await stream.lines()
        assert (bad["index"], bad["problem"]["type"]) == (0, "/problems/line-too-long")
        assert (good["index"], good["latent"]) == (1, [0, 0.25])
        assert end == DONE | {"rows": 2}


async def test_lines_are_as_json_when_they_are_cut_anywhere(port: int) -> None:
    body = b"".join(json.dumps([index, 0, 0, 1]).encode() + b"\r\n" for index in range(50))
    async with Stream.open(port, "tiny/encode") as stream:
        await stream.send(*(body[start : start + 7] for start in range(0, len(body), 7)))
        await stream.end()
        assert await stream.head() == 200
        assert [line["latent"][0] for line in (await stream.lines())[:-1]] == list(range(50))
