"""How a request learns what its client does, from a server that says so."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from starlette.types import Scope

__all__ = ["CONNECTION", "Connected", "connection_of"]

CONNECTION = "connection"
"""Where it stands in the state that the server passes on with each request."""


class Connected(Protocol):
    """A connection that cancels the task `under_way` when its client is `gone`."""

    gone: bool
    under_way: asyncio.Task[Any] | None

    def when_taken(self, then: Callable[[], None]) -> None:
        """`then` is called once the client has taken nearly all that it was answered, or has gone."""


def connection_of(scope: Scope) -> Connected | None:
    """The connection that the request came through; None where the server does not say."""
    state = scope.get("state")
    return state.get(CONNECTION) if state else None
