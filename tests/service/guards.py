"""Guards of the service, and who gets past them."""

from pathlib import Path
from typing import Any

from service.api.auth import Guard
from service.errors import ServiceError
from service.keys import KeyScope, Rate
from tests.key_files import KEY

__all__ = ["SLOW", "Clock", "admitted", "guard_of"]

SLOW = Rate(requests_per_second=0.5, burst=2)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def guard_of(path: Path, clock: Clock | None = None) -> Guard:
    """A guard that has read the file."""
    guard = Guard(path, clock=clock or Clock())
    await guard.start()
    return guard


def admitted(guard: Guard, needed: KeyScope = KeyScope.INFER, *, key: str = KEY) -> str | type[ServiceError]:
    """The name of the key that lets this in, or the refusal."""
    scope: dict[str, Any] = {}
    try:
        guard.admit(scope, {b"x-api-key": key.encode()}, needed)
    except ServiceError as error:
        return type(error)
    return str(scope["client_key"])
