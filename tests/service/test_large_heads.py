"""Heads of requests that are too large: refused past 64 KiB, however they come, and no more parsed than has to be."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.api.posted import Posted
from service.connection import MAX_HEAD_BYTES, Connection
from service.errors import HeadTooLarge
from tests.service.clients import BODY, PATH, Client, Place, client, place_over, request

LENGTH = b"Host: diabolo\r\nContent-Length: %d\r\n" % len(BODY)
UVLOOP_BYTES = 256_000  # as much as it reads at once


@pytest.fixture
async def place(models: Path) -> AsyncIterator[Place]:
    """A service with a program of its own."""
    async with place_over(models) as found:
        yield found


def head(size: int, filler: bytes = b"") -> bytes:
    """A head of so many bytes, without the line that ends it: many fields, or one long one."""
    begun = PATH + LENGTH
    if filler:
        begun += filler * ((size - len(begun)) // len(filler) - 1)
    return begun + b"X:" + b"x" * (size - len(begun) - 4) + b"\r\n"


def come(place: Place, content: bytes, *, size: int = UVLOOP_BYTES) -> None:
    """The only connection's bytes, in pieces of this size."""
    (connection,) = place.connections
    for start in range(0, len(content), size):
        if not connection.transport.is_closing():
            connection.data_received(content[start : start + size])


async def assert_refused(hostile: Client) -> None:
    status, fields, problem = await hostile.answer()
    assert (status, problem["type"]) == (431, f"/problems/{HeadTooLarge.slug}")
    assert fields["connection"] == "close"
    assert await hostile.ended()


@pytest.mark.parametrize("size", [100, 10_000, MAX_HEAD_BYTES, UVLOOP_BYTES])
@pytest.mark.parametrize("filler", [b"", b"a:b\r\n"], ids=["a field", "fields"])
async def test_past_64_kib_a_head_is_431_in_whatever_pieces_it_comes(place: Place, filler: bytes, size: int) -> None:
    async with client(place) as hostile:
        come(place, head(MAX_HEAD_BYTES + 100, filler) + b"\r\n" + BODY, size=size)
        await assert_refused(hostile)


@pytest.mark.parametrize("size", [10_000, MAX_HEAD_BYTES, UVLOOP_BYTES])
@pytest.mark.parametrize("filler", [b"", b"X-%d: 1\r\n" % 10**9], ids=["a field", "fields"])
async def test_up_to_64_kib_it_is_read_whatever_comes_in_the_same_piece(place: Place, filler: bytes, size: int) -> None:
    async with client(place) as honest:
        large = BODY + b" " * MAX_HEAD_BYTES
        come(place, head(MAX_HEAD_BYTES - 10, filler) + b"\r\n" + BODY + request(large) + request(), size=size)
        for _ in range(3):
            assert (await honest.answer())[0] == 200


async def test_a_path_of_more_than_64_kib_is_431_too(place: Place) -> None:
    async with client(place) as hostile:
        come(place, b"GET /" + b"x" * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: diabolo\r\n\r\n")
        await assert_refused(hostile)


@pytest.mark.parametrize("size", [MAX_HEAD_BYTES, UVLOOP_BYTES])
async def test_a_head_that_begins_in_the_piece_of_another_request_has_no_more_room(place: Place, size: int) -> None:
    async with client(place) as hostile:
        come(place, request())
        assert (await hostile.answer())[0] == 200
        come(place, request(BODY + b" " * MAX_HEAD_BYTES) + head(2 * MAX_HEAD_BYTES) + b"\r\n", size=size)
        status, fields, _ = await hostile.answer()
        assert (status, fields.get("connection")) == (200, "close")
        assert await hostile.ended()


async def test_of_a_large_piece_no_more_fields_are_parsed_than_the_bound_has_room_for(place: Place) -> None:
    async with client(place) as hostile:
        (connection,) = place.connections
        connection.data_received(head(UVLOOP_BYTES, b"a:b\r\n"))
        assert len(connection.headers) < 2.1 * MAX_HEAD_BYTES / len(b"a:b\r\n")
        await assert_refused(hostile)


async def test_a_body_is_taken_in_the_pieces_in_which_it_comes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    class Counted(Connection):
        def on_body(self, body: bytes) -> None:
            taken.append(len(body))
            super().on_body(body)

    monkeypatch.setattr(place.server.config, "http_protocol_class", Counted)
    async with client(place) as honest:
        content = request(BODY + b" " * 2 * UVLOOP_BYTES)
        come(place, content[: -2 * UVLOOP_BYTES])
        come(place, content[-2 * UVLOOP_BYTES :])
        assert (await honest.answer())[0] == 200
    assert taken == [len(BODY), UVLOOP_BYTES, UVLOOP_BYTES]


class Whole(bytes):
    """A value that nothing may be appended to, piece by piece."""

    def __add__(self, other: object) -> bytes:
        raise AssertionError("it is copied once for each field that follows")


def test_fields_of_one_name_are_joined_at_once() -> None:
    lines = [(b"a", Whole(b"%d" % number)) for number in range(3)]

    async def receive() -> dict[str, object]:
        raise AssertionError

    posted = Posted({"type": "http", "headers": [*lines, (b"b", Whole(b"3"))]}, receive)
    assert posted.fields == {b"a": b"0, 1, 2", b"b": b"3"}
