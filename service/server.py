"""uvicorn around the app: opens the socket, says where it is, and ends in order."""

import logging
import signal
import socket
import sys
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from bundle.read import scan
from service.app import create_app
from service.settings import Settings

__all__ = ["serve"]


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT: then not ready, `drain_delay` seconds later no new connections, what was accepted
    is answered within `drain_seconds`, and the process exits with 0. Exits with 3 when it cannot start."""
    app = create_app(settings)
    logging.getLogger("uvicorn.access").addFilter(_is_no_probe)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        log_level=settings.log_level,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    DrainingServer(config, app, settings).run()


def _is_no_probe(record: logging.LogRecord) -> bool:
    """Health probes come every few seconds for ever and say nothing while they succeed."""
    path, status = (record.args[2], record.args[4]) if isinstance(record.args, tuple) else ("", 0)
    return not (path in {"/livez", "/readyz"} and status == 200)


class DrainingServer(uvicorn.Server):
    """uvicorn's server, but a signal turns readiness off first, a second SIGTERM changes nothing, a second Ctrl-C ends
    at once, and an orderly end is exit code 0 rather than death by the signal."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, settings: Settings) -> None:
        super().__init__(config)
        self._app = app
        self._drain_delay = settings.drain_delay
        self._models_dir = settings.models_dir
        self._signalled_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        """Called by uvicorn for SIGTERM and SIGINT."""
        self._app.state.draining = True
        if self._signalled_at is None:
            self._signalled_at = time.monotonic()
        elif sig == signal.SIGINT:
            self.should_exit = self.force_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; true ends its main loop."""
        if self._signalled_at is not None and time.monotonic() - self._signalled_at >= self._drain_delay:
            self.should_exit = True
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn. The socket is open; the person who started the service knows where."""
        await super().startup(sockets)
        if self.started:
            self._announce()

    def _announce(self) -> None:
        port = self.servers[0].sockets[0].getsockname()[1]
        host = self.config.host if self.config.host not in {"0.0.0.0", "::"} else "127.0.0.1"
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        names = [location.name for location in scan(self._models_dir)]
        model = f"{address}/v1/models/{'fashion-vae' if 'fashion-vae' in names or not names else names[0]}"
        sys.stdout.write(
            f"\nDiabolo serves  {address}\n"
            f"docs            {address}/docs\n"
            f"try             curl -s {model}/examples/4 |\n"
            f"                  curl -H 'Accept: image/png' --data-binary @- -o picture.png {model}/reconstruct\n\n"
        )
        sys.stdout.flush()
