"""Clients of a real socket, one by one, and a service whose time the test moves."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import uvicorn

from service.connection import Connection
from tests.service.programs import PATIENCE, Program
from tests.service.serving import ROWS, Served, serving
from tests.service.sockets import serving_connections

__all__ = [
    "BODY",
    "PATH",
    "SECONDS",
    "SEND_SECONDS",
    "SLOW",
    "Client",
    "Place",
    "begun",
    "client",
    "place_over",
    "request",
    "until",
]

SECONDS, SEND_SECONDS = 30, 60
SLOW = b"Host: diabolo\r\nContent-Length: 100\r\n\r\n"
BODY = json.dumps({"inputs": ROWS}).encode()
PATH = b"POST /v1/models/tiny/encode HTTP/1.1\r\n"


class Place:
    """A running service whose time the test moves."""

    def __init__(self, served: Served, port: int, server: uvicorn.Server) -> None:
        self.served, self.port, self.server = served, port, server
        self.now = 1000.0
        served.app.state.bodies._clock = lambda: self.now

    @property
    def connections(self) -> list[Connection]:
        """Those that the server has."""
        return [connection for connection in self.server.server_state.connections if isinstance(connection, Connection)]

    def later(self, seconds: float) -> None:
        """It is so much later, and all connections are attended to, as the server does once a second."""
        self.now += seconds
        for connection in self.connections:
            connection.attend(self.now, seconds=SECONDS, send_seconds=SEND_SECONDS)

    async def rest(self) -> None:
        """Whatever is due has been done."""
        for _ in range(20):
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def place_over(models: Path, **settings: Any) -> AsyncIterator[Place]:
    """A service with a program of its own."""
    async with (
        serving(models, Program(), **{"max_batch_rows": 4, "receive_seconds": SECONDS, **settings}) as served,
        serving_connections(served.app) as (port, server),
    ):
        yield Place(served, port, server)


class Client:
    """A connection that sends what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, content: bytes) -> None:
        """It is on its way."""
        self.writer.write(content)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """The status, the fields and the JSON of the next answer."""
        async with asyncio.timeout(PATIENCE):
            status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        content = await self.reader.readexactly(int(fields["content-length"]))
        return int(status.split()[1]), fields, json.loads(content)

    async def ended(self) -> bool:
        """True when the server closes the connection and has sent nothing more."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.reader.read() == b""
        except ConnectionResetError:
            return True


@contextlib.asynccontextmanager
async def client(place: Place) -> AsyncIterator[Client]:
    """A connection that the server has accepted."""
    known = set(place.connections)
    reader, writer = await asyncio.open_connection("127.0.0.1", place.port)
    await until(lambda: not known.issuperset(place.connections))
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def until(holds: Callable[[], bool]) -> None:
    """It has come to be so."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0)


async def begun(place: Place) -> None:
    """A request is being answered, or its body read."""
    await until(lambda: any(connection.under_way for connection in place.connections))
    await place.rest()


def request(body: bytes = BODY, *fields: str) -> bytes:
    """A whole one."""
    head = [*fields, "Host: diabolo", f"Content-Length: {len(body)}", "", ""]
    return PATH + "\r\n".join(head).encode() + body
