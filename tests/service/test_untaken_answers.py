"""Answers that their clients do not take: they are held, bounded, and in the end given up."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.api.bodies import BYTES_PER_NUMBER, SMALL_BYTES
from service.errors import Overloaded
from tests.bundle_factory import LATENT_SIZE, SIZE
from tests.service.clients import SECONDS, SEND_SECONDS, Place, client, place_over, request, until
from tests.service.serving import assert_problem
from tests.service.sockets import limit_buffers

COUNT = 2**15
HELD = COUNT * (SIZE + 2 * LATENT_SIZE) * BYTES_PER_NUMBER
ASKED = json.dumps({"count": COUNT}).encode()
REQUEST = b"POST /v1/models/vae/sample HTTP/1.1\r\nHost: diabolo\r\nContent-Length: %d\r\n\r\n%b" % (len(ASKED), ASKED)


class Reader:
    """A client that has asked for a large answer and reads it when it is told to."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.socket = socket.socket()
        limit_buffers(self.socket)
        self.socket.setblocking(False)

    async def ask(self, port: int) -> None:
        """The request has been sent."""
        await self._loop.sock_connect(self.socket, ("127.0.0.1", port))
        await self._loop.sock_sendall(self.socket, REQUEST)

    async def read(self, size: int) -> int:
        """So many bytes have been taken, or fewer where there are no more; how many."""
        taken = 0
        while taken < size and (piece := await self._loop.sock_recv(self.socket, size - taken)):
            taken += len(piece)
        return taken


@pytest.fixture
async def place(models: Path) -> AsyncIterator[Place]:
    """A service that holds one large answer at a time, or nearly two."""
    most = 2 * HELD - 1
    async with place_over(
        models, max_rows=COUNT, max_pending_rows=COUNT, max_batch_rows=COUNT, max_body_bytes=most, max_bodies_bytes=most
    ) as found:
        yield found


@pytest.fixture
async def reader(place: Place) -> AsyncIterator[Reader]:
    """A client whose answer lies there, for it to take."""
    reader = Reader()
    await reader.ask(place.port)
    await until(lambda: any(connection.flow.write_paused for connection in place.connections))
    await place.rest()
    with reader.socket:
        yield reader


async def test_an_answer_is_held_until_it_is_taken_and_keeps_out_large_ones_alone(place: Place, reader: Reader) -> None:
    bodies = place.served.app.state.bodies
    assert bodies.held_bytes == HELD > SMALL_BYTES
    assert_problem(await place.served.post("vae/sample", json={"count": COUNT}), Overloaded)
    assert_problem(
        await place.served.post("vae/interpolate", json={"start": 1, "end": 2, "steps": COUNT, "space": "seeds"}),
        Overloaded,
    )
    assert bodies.refused == 2
    assert (await place.served.post("vae/sample", json={"count": 1})).status_code == 200
    async with client(place) as small:
        await small.send(request())
        assert (await small.answer())[0] == 200
    reading = asyncio.create_task(reader.read(2**30))
    await until(lambda: bodies.held_bytes == 0)
    assert (await place.served.post("vae/sample", json={"count": COUNT})).status_code == 200
    assert bodies.held_bytes == 0
    reading.cancel()


async def test_an_answer_whose_client_goes_is_not_held_any_more(place: Place, reader: Reader) -> None:
    reader.socket.close()
    await until(lambda: place.served.app.state.bodies.held_bytes == 0)


async def test_a_client_that_takes_nothing_is_cut_off_and_one_that_takes_a_little_is_not(
    place: Place, reader: Reader
) -> None:
    (connection,) = place.connections
    for _ in range(3):
        place.later(SEND_SECONDS - 1)
        while connection._bytes_taken() == connection._taken:
            await reader.read(2**12)
            await asyncio.sleep(0.001)
    place.later(0)
    place.later(SEND_SECONDS - 1)
    await place.rest()
    assert place.connections == [connection]
    place.later(1)
    await until(lambda: not place.connections)
    assert place.served.app.state.bodies.held_bytes == 0
    assert await reader.read(HELD) < HELD / 2, "what the system had, and then the end"


async def test_who_has_taken_all_may_stay_idle(place: Place) -> None:
    async with client(place) as idle:
        await idle.send(request())
        assert (await idle.answer())[0] == 200
        place.later(SECONDS)
        place.later(SEND_SECONDS + 1)
        await place.rest()
        assert len(place.connections) == 1
