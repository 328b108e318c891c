"""A worker process: the service without a listening socket of its own. Connections come from the supervisor."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.channel import CONNECTION, MESSAGE_BYTES, READY, Report
from service.listening import STARTUP_FAILURE
from service.logs import configure_logs
from service.server import DrainingServer, server_config
from service.settings import Settings
from service.tls import TlsUnusable

__all__ = ["Worker", "main"]

HANDSHAKE_SECONDS = 0.5
logger = logging.getLogger("diabolo.worker")


def main() -> None:
    """Serves the connections that come through the channel whose descriptor is the first argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    settings = Settings.model_validate_json(channel.recv(MESSAGE_BYTES))
    channel.setblocking(False)
    configure_logs(settings)
    app = create_app(settings)
    app.state.repository.held = True
    app.state.metrics.share(settings.metrics_dir)
    try:
        config = server_config(app, settings)
    except TlsUnusable as error:  # the files have changed since the supervisor looked at them
        logger.error("%s", error)
        sys.exit(STARTUP_FAILURE)
    Worker(config, app, settings, channel=channel).run(sockets=[])


class Worker(DrainingServer):
    """The server over connections that somebody else has accepted.

    It is ready once the supervisor has seen that all workers can be, and ends once the channel does: the supervisor has
    no more connections for it, or is gone. A SIGTERM from elsewhere makes it not ready and asks the supervisor to let
    it go; Ctrl-C is the supervisor's affair.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings, *, channel: socket.socket) -> None:
        super().__init__(config, app, settings)
        self._channel = channel
        self._connecting: set[asyncio.Task[None]] = set()
        self._taken = self._closed = 0
        self._leaving = self._ended = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        """Called by uvicorn for SIGTERM and SIGINT."""
        if sig == signal.SIGTERM:
            self._app.state.draining = self._leaving = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn. Connections are taken from here on."""
        await super().startup(sockets)
        if self.started:
            asyncio.get_running_loop().add_reader(self._channel, self._receive)
            self._report()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; true ends its main loop."""
        self._report()
        if self._ended and not self._connecting:
            self.stop()
        return await super().on_tick(counter)

    def _receive(self) -> None:
        """Takes all that has come through the channel."""
        while not self._ended:
            try:
                message, descriptors, _, _ = socket.recv_fds(
                    self._channel, MESSAGE_BYTES, 1, flags=socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                break
            except ConnectionError:
                message, descriptors = b"", []
            if message == CONNECTION:
                self._take(descriptors)
            elif message == READY:
                self._app.state.repository.held = False
            else:
                self._app.state.draining = True
                self._ended = not message
        if self._ended:
            asyncio.get_running_loop().remove_reader(self._channel)
            asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self._give_up)
        self._report()  # before a byte of the new connections is read: whoever did not report has read nothing

    def _take(self, descriptors: list[int]) -> None:
        self._taken += 1
        if not descriptors:
            logger.error("a connection was lost: this process has too many files open")
            self._closed += 1
            return
        task = asyncio.get_running_loop().create_task(self._connect(socket.socket(fileno=descriptors[0])))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection, **self._tls)
        except OSError as error:
            logger.debug("a client had gone, or was refused, before it was served: %s", error)
            connection.close()
            self._lost()

    def _give_up(self) -> None:
        """Who has not finished a handshake by now is not waited for."""
        for task in self._connecting:
            task.cancel()

    def _lost(self) -> None:
        self._closed += 1
        self._report()

    def _report(self) -> None:
        repository = self._app.state.repository
        complete = repository.complete and not self._app.state.draining
        with contextlib.suppress(OSError):  # full: the next report says it all; closed: `_receive` learns of it
            self._channel.send(Report(self._taken, self._closed, repository.scanned, complete, self._leaving).packed())


if __name__ == "__main__":
    main()
