"""Bytes that are no HTTP: one clear answer where nothing was begun, and never one in the midst of another."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.errors import MalformedRequest
from tests.service.clients import PATH, Place, client, place_over, request, until
from tests.service.sockets import Stream


@pytest.fixture
async def place(models: Path) -> AsyncIterator[Place]:
    """A service with a program of its own."""
    async with place_over(models) as found:
        yield found


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # how TLS begins
        b"\x00" * 100,
        b"HELLO\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        PATH + b"Content-Length: -1\r\n\r\n",
        PATH + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        PATH + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_400_and_ends_its_connection_alone(place: Place, sent: bytes) -> None:
    async with client(place) as other, client(place) as hostile:
        await hostile.send(sent)
        status, fields, problem = await hostile.answer()
        assert (status, problem["type"]) == (400, f"/problems/{MalformedRequest.slug}")
        assert (fields["content-type"], fields["connection"]) == ("application/problem+json", "close")
        assert await hostile.ended()
        await other.send(request())
        assert (await other.answer())[0] == 200


async def test_a_body_that_is_divided_wrongly_ends_its_request(place: Place) -> None:
    async with client(place) as hostile:
        await hostile.send(PATH + b"Host: diabolo\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        assert (await hostile.answer())[0] == 400
        assert await hostile.ended()
    await until(lambda: not place.connections)
    assert place.served.app.state.bodies.held_bytes == 0


async def test_in_the_midst_of_an_answer_there_is_no_other(place: Place) -> None:
    async with Stream.open(place.port, "tiny/encode") as stream:
        await stream.send(b"[0, 0, 0, 0]\n")
        assert await stream.head() == 200
        assert (await stream.line())["latent"] == [0, 0]
        await stream.send_plain(b"nonsense\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await stream.line()
