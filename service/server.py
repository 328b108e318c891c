"""uvicorn around the app: opens the socket, says where it is, and ends in order."""

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
import time
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from service.announcement import announce
from service.app import create_app
from service.connection import Connection
from service.listening import BACKLOG, listen_or_exit
from service.settings import Settings
from service.tls import follow_certificate, tls_options

__all__ = ["GARBAGE_THRESHOLDS", "DrainingServer", "serve", "server_config"]

# What is left when `drain_seconds` are over has so long to send the reason, and the process to end.
REPLY_SECONDS = 1
TURNS = 10
LEAVE_SECONDS = 2.0
# What 32 requests at a time allocate is four times Python's own threshold of 700, in each batch anew; hardly any of it
# is a ring, which alone needs the collector.
GARBAGE_THRESHOLDS = (20_000, 10, 10)
logger = logging.getLogger("diabolo")


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT: then not ready, `drain_delay` seconds later no new connections, what was accepted
    is answered within `drain_seconds`, and the process exits with 0. Exits with 3 when it cannot start."""
    app = create_app(settings)
    DrainingServer(server_config(app, settings), app, settings).run(listen_or_exit(settings))


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """uvicorn's settings for the app. Raises TlsUnusable."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=Connection,
        ws="none",
        log_level=settings.log_level,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds + REPLY_SECONDS,
        **tls_options(settings),
    )


class DrainingServer(uvicorn.Server):
    """uvicorn's server, but a signal turns readiness off first, a second SIGTERM changes nothing, a second Ctrl-C ends
    at once, and an orderly end is exit code 0 rather than death by the signal.

    Whoever is not answered within `drain_seconds` hears why, and no thread that never ends keeps the process.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings) -> None:
        super().__init__(config)
        self._app = app
        self._settings = settings
        self._has_settled = False
        self._signalled_at: float | None = None
        self._refusing: list[asyncio.Task[None]] = []
        self._following: asyncio.Task[None] | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Called once, in a process of its own: that ends soon after the server has."""
        self._over = threading.Event()
        threading.Thread(target=self._leave, name="leave", daemon=True).start()
        # Modules and routes live as long as the process: to look at their 100,000 objects again and again would hold
        # everybody up for 60 ms each time.
        gc.freeze()
        gc.set_threshold(*GARBAGE_THRESHOLDS)
        super().run(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        """Called by uvicorn for SIGTERM and SIGINT."""
        self._app.state.draining = True
        if self._signalled_at is None:
            self._signalled_at = time.monotonic()
        elif sig == signal.SIGINT:
            self.force_exit = True
            self.stop()

    def stop(self) -> None:
        """No connection is accepted from now on, and what is under way comes to its end."""
        self.should_exit = True
        self._app.state.stopping.set()  # streams would not end by themselves

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn once nothing is accepted any more."""
        asyncio.get_running_loop().call_later(self._settings.drain_seconds, self._refuse_what_waits)
        try:
            await super().shutdown(sockets)
        finally:
            self._over.set()

    def _refuse_what_waits(self) -> None:
        for batcher in self._app.state.repository.batchers:
            self._refusing.append(asyncio.create_task(batcher.close(0)))

    def _leave(self) -> None:
        """The event loop, and then Python, would wait for a thread in a forward pass, or one that reads a bundle, for
        as long as it takes."""
        self._over.wait()
        time.sleep(LEAVE_SECONDS)
        logger.warning("a thread does not end and is left behind")
        os._exit(0)

    def _attend(self, counter: int) -> None:
        """All connections in ten turns, so that thousands of them hold up nobody."""
        now = time.monotonic()
        for connection in tuple(self.server_state.connections)[counter % TURNS :: TURNS]:
            assert isinstance(connection, Connection)
            connection.attend(now, seconds=self._settings.receive_seconds, send_seconds=self._settings.send_seconds)

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; true ends its main loop."""
        self._attend(counter)
        if not self._has_settled and self._app.state.repository.scanned:
            # The runtime has been imported: torch has 150,000 objects. Bundles that retire need no collector.
            self._has_settled = True
            gc.freeze()
        if self._signalled_at is not None and time.monotonic() - self._signalled_at >= self._settings.drain_delay:
            self.stop()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn. The sockets are open; the person who started the service knows where."""
        await super().startup([])  # uvicorn has no say in how long a handshake may take
        if self.started and self.config.ssl is not None:
            self._following = asyncio.create_task(follow_certificate(self._settings, self.config.ssl))
        if self.started and sockets:
            loop = asyncio.get_running_loop()
            self.servers = [
                await loop.create_server(self._protocol, sock=listener, backlog=BACKLOG, **self._tls)
                for listener in sockets
            ]
            announce(self._settings, sockets[0].getsockname()[1])

    @property
    def _tls(self) -> dict[str, Any]:
        """How connections are secured, for the event loop. A handshake may take as long as the head of a request."""
        secured = {"ssl": self.config.ssl, "ssl_handshake_timeout": self._settings.receive_seconds}
        return secured if self.config.ssl is not None else {}

    def _protocol(self) -> asyncio.Protocol:
        return Connection(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            lost=self._lost,
            refused=self._app.state.metrics.traffic.refused,
        )

    def _lost(self) -> None:
        """A connection has ended."""
