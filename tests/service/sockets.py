"""The app behind uvicorn on a real socket, in this event loop, and a client that writes and reads at the same time."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from service.connection import Connection

__all__ = ["Stream", "limit_buffers", "listening", "serving_connections"]

# What the kernel holds between the two, which it would otherwise let grow to many megabytes.
BUFFER_BYTES = 2**16
HEAD = "POST /v1/models/{path} HTTP/1.1\r\nHost: diabolo\r\nContent-Type: application/x-ndjson\r\n{fields}\r\n"


@contextlib.asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[int]:
    """The port on which uvicorn serves the app, whose lifespan is the caller's."""
    async with serving_connections(app) as (port, _):
        yield port


@contextlib.asynccontextmanager
async def serving_connections(app: FastAPI) -> AsyncIterator[tuple[int, uvicorn.Server]]:
    """The same, and the server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        limit_buffers(listener)
        # As uvloop does: asyncio forgets it for listeners that do not name their protocol, and the second half of each
        # answer then waits 40 ms for the client to acknowledge the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(app, lifespan="off", http=Connection, log_config=None, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0)
        try:
            yield listener.getsockname()[1], server
        finally:
            server.should_exit = True
            await task


class Stream:
    """A request whose body is written piece by piece (chunked), while its answer is read line by line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._rest = b""
        self.fields: dict[str, str] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, port: int, path: str, **fields: str) -> AsyncIterator["Stream"]:
        """The request's head has been sent."""
        client = socket.socket()
        limit_buffers(client)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
        reader, writer = await asyncio.open_connection(sock=client)
        fields = {"Transfer-Encoding": "chunked", **{name.replace("_", "-"): value for name, value in fields.items()}}
        text = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
        writer.write(HEAD.format(path=path, fields=text).encode())
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    async def send(self, *pieces: bytes) -> None:
        """These pieces of the body are on their way; waits where the server does not take them."""
        for piece in pieces:
            self._writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await self._writer.drain()

    async def send_plain(self, content: bytes) -> None:
        """These bytes are on their way as they are."""
        self._writer.write(content)
        await self._writer.drain()

    async def end(self) -> None:
        """The body is complete."""
        self._writer.write(b"0\r\n\r\n")
        await self._writer.drain()

    def leave(self) -> None:
        """The connection is gone."""
        self._writer.transport.abort()

    async def head(self) -> int:
        """The status; the response's fields are in `fields` from here on."""
        status, *fields = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.fields = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields if field)}
        return int(status.split()[1])

    async def piece(self) -> bytes:
        """The next piece of the answer as it came, empty at its end."""
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]

    async def line(self) -> Any:
        """The next line of the answer, parsed, or None at its end."""
        while b"\n" not in self._rest:
            piece = await self.piece()
            if not piece:
                assert not self._rest, "half a line"
                return None
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    async def lines(self) -> list[Any]:
        """All the lines that are still to come."""
        found = []
        while (line := await self.line()) is not None:
            found.append(line)
        return found


def limit_buffers(end: socket.socket) -> None:
    for direction in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        end.setsockopt(socket.SOL_SOCKET, direction, BUFFER_BYTES)
