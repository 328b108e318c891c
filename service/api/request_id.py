"""The id that ties a request, its answer and its log lines together."""

import re
import uuid
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["RequestId", "request_id_of"]

ACCEPTED = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestId:
    """ASGI middleware: the client's `X-Request-ID` where it is well formed, else a new one; every response names it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the app with the id in the scope, and adds it to the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        identity = given if ACCEPTED.fullmatch(given) else uuid.uuid4().hex.encode()
        scope["request_id"] = identity.decode()

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-request-id", identity)]}
            await send(message)

        await self._app(scope, receive, send_named)


def request_id_of(scope: dict[str, Any] | Scope) -> str:
    """The id of the request that this scope belongs to."""
    return str(scope["request_id"])
