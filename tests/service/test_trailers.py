"""What follows a body and is none of it: extensions of chunks and fields after the last. It is read up to a bound, and
never part of the request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.connection import MAX_HEAD_BYTES
from service.errors import HeadTooLarge
from tests.service.clients import BODY, PATH, Client, Place, client, place_over, request, until

CHUNKED = b"Host: diabolo\r\nTransfer-Encoding: chunked\r\n"
STREAM = CHUNKED + b"Content-Type: application/x-ndjson\r\n"
FIELDS = b"".join(b"X-%d: 1\r\n" % number for number in range(1000))
CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)


@pytest.fixture
async def place(models: Path) -> AsyncIterator[Place]:
    """A service with a program of its own."""
    async with place_over(models) as found:
        yield found


async def send_for_ever(hostile: Client, piece: bytes) -> int:
    """So many bytes of these pieces were taken before the connection ended, or an answer came."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while not (hostile.reader.at_eof() or hostile.reader._buffer):  # type: ignore[attr-defined]  # what has come
            assert sent < 1000 * MAX_HEAD_BYTES, "it takes all of it"
            hostile.writer.write(piece)
            await hostile.writer.drain()
            sent += len(piece)
            await asyncio.sleep(0)
    return sent


@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        (PATH + CHUNKED + b"\r\n" + CHUNK + b"0\r\n", FIELDS),
        (PATH + CHUNKED + b"\r\n" + CHUNK + b"0\r\nX: ", b"1" * 10_000),
        (PATH + CHUNKED + b"\r\n5;", b"x" * 10_000),
    ],
    ids=["fields", "a field", "an extension"],
)
async def test_without_end_they_are_431(place: Place, begun: bytes, piece: bytes) -> None:
    async with client(place) as hostile:
        await hostile.send(begun)
        await send_for_ever(hostile, piece)
        status, _, problem = await hostile.answer()
        assert (status, problem["type"]) == (431, f"/problems/{HeadTooLarge.slug}")


@pytest.mark.parametrize("begun", [b"GET /livez HTTP/1.1\r\n" + CHUNKED, PATH + STREAM], ids=["answered", "a stream"])
async def test_after_an_answer_has_begun_they_end_the_connection(place: Place, begun: bytes) -> None:
    async with client(place) as hostile:
        await hostile.send(begun + b"\r\n0\r\n" if begun.startswith(b"GET") else begun + b"\r\n4\r\n[0,\n\r\n0\r\n")
        await hostile.reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await hostile.send(FIELDS)
                await asyncio.sleep(0)
        await until(lambda: not place.connections)


async def test_they_are_no_fields_of_the_request(place: Place) -> None:
    async with client(place) as honest:
        await honest.send(PATH + CHUNKED + b"\r\n" + CHUNK)
        await asyncio.sleep(0)
        await honest.send(b"0\r\nAccept: application/x-npy\r\nX-Request-ID: mine\r\n\r\n")
        status, fields, _ = await honest.answer()
        assert (status, fields["content-type"]) == (200, "application/json")
        assert fields["x-request-id"] != "mine"
        await honest.send(request())
        assert (await honest.answer())[0] == 200


async def test_a_body_of_many_small_chunks_is_no_head(place: Place) -> None:
    padded = BODY + b" " * 3 * MAX_HEAD_BYTES
    async with client(place) as honest:
        await honest.send(PATH + CHUNKED + b"\r\n")
        for start in range(0, len(padded), 2000):
            await honest.send(b"".join(b"1\r\n%c\r\n" % byte for byte in padded[start : start + 2000]))
        await honest.send(b"0\r\n\r\n")
        assert (await honest.answer())[0] == 200


async def test_many_requests_of_one_connection_are_no_head_together(place: Place) -> None:
    async with client(place) as honest:
        for _ in range(40):
            await honest.send(b"GET /livez HTTP/1.1\r\nHost: diabolo\r\nX: %b\r\n\r\n" % (b"x" * 4000))
            assert (await honest.answer())[0] == 200
