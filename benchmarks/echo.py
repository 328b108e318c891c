"""The limit of the HTTP stack: an ASGI app that reads a body and answers with bytes of a reconstruction's length.

`python -m benchmarks.echo BYTES WORKERS PORT [--shared]`: several workers get their connections as the service's do,
or share the listening socket, as uvicorn's own.
"""

import asyncio
import os
import socket
import sys
from types import SimpleNamespace
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from service.channel import MESSAGE_BYTES
from service.monitoring.metrics import Metrics
from service.settings import Settings
from service.supervisor import supervise
from service.worker import Worker

BYTES = "ECHO_BYTES"
# The service's own, lines of uvicorn's and its name in answers left out: they take a twentieth of an answer's time.
STACK: dict[str, Any] = {
    "loop": "uvloop",
    "http": "httptools",
    "ws": "none",
    "access_log": False,
    "server_header": False,
}


def app_from_environment() -> "EchoApp":
    """The app that answers with so many bytes as the environment says."""
    return echo_app(b"x" * int(os.environ[BYTES]))


def echo_app(answer: bytes) -> "EchoApp":
    """An app that answers every request with `answer`, once it has read the whole body."""
    return EchoApp(answer)


class EchoApp:
    """Nothing but HTTP."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the body, answers."""
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._answer})


def serve(size: int, workers: int, *, port: int, shared: bool) -> None:
    """Serves until SIGTERM."""
    os.environ[BYTES] = str(size)
    if workers == 1 or shared:
        app = "benchmarks.echo:app_from_environment"
        uvicorn.run(app, factory=True, port=port, workers=workers, log_level="warning", lifespan="off", **STACK)
    else:
        settings = Settings(port=port, log_level="warning")
        supervise(settings, workers, command=[sys.executable, "-m", "benchmarks.echo", "worker"])


def work(channel: socket.socket) -> None:
    """A worker of the supervisor's."""
    settings = Settings.model_validate_json(channel.recv(MESSAGE_BYTES))
    channel.setblocking(False)
    config = uvicorn.Config(app_from_environment(), log_level="warning", lifespan="off", **STACK)
    standing = FastAPI()
    standing.state.draining, standing.state.repository = False, SimpleNamespace(scanned=True, complete=True)
    standing.state.stopping = asyncio.Event()
    standing.state.metrics = Metrics()
    Worker(config, standing, settings, channel=channel).run(sockets=[])


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        work(socket.socket(fileno=int(sys.argv[2])))
    else:
        size, workers, port = map(int, sys.argv[1:4])
        serve(size, workers, port=port, shared="--shared" in sys.argv)
