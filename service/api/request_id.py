"""The id that ties a request, its answer and its log lines together."""

import random
import re
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["FIELD", "RequestId", "identify", "request_id_of"]

FIELD = b"x-request-id"
ACCEPTED = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# Seeded by the system once in each process. Nobody has to be unable to guess an id, so none is a system call's worth.
GENERATOR = random.Random()


class RequestId:
    """ASGI middleware: every request has an id in its scope, and every response names it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the app with the id in the scope, and adds it to the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = identify(scope, next((value for name, value in scope["headers"] if name == FIELD), None))

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (FIELD, identity)]}
            await send(message)

        await self._app(scope, receive, send_named)


def identify(scope: Scope, given: bytes | None) -> bytes:
    """The request's id, which is in its scope from here on: the client's `X-Request-ID` where it is well formed, else a
    new one of 128 random bits."""
    identity = given.decode() if given and ACCEPTED.fullmatch(given) else f"{GENERATOR.getrandbits(128):032x}"
    scope["request_id"] = identity
    return identity.encode()


def request_id_of(scope: dict[str, Any] | Scope) -> str:
    """The id of the request that this scope belongs to."""
    return str(scope["request_id"])
