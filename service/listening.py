"""The sockets on which the service can be reached."""

import logging
import socket

from service.settings import Settings

__all__ = ["BACKLOG", "STARTUP_FAILURE", "listen", "listen_or_exit"]

BACKLOG = 2048
STARTUP_FAILURE = 3  # uvicorn's, so that one worker and several end alike
logger = logging.getLogger("diabolo")


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of `host` and do not block. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners = [
        socket.create_server(address[:2], family=family, backlog=BACKLOG)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found)
    ]
    for listener in listeners:
        listener.setblocking(False)
    return listeners


def listen_or_exit(settings: Settings) -> list[socket.socket]:
    """The sockets that the settings ask for; where they cannot be had, the log says why and the process ends with 3."""
    try:
        return listen(settings.host, settings.port)
    except OSError as error:
        logger.error("cannot listen on %s port %d: %s", settings.host, settings.port, (error.strerror or "").lower())
        raise SystemExit(STARTUP_FAILURE) from None
