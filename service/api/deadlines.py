"""Until when an answer is wanted, as requests say it."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from service.api.posted import Posted
from service.engine.deadline import DEADLINE
from service.errors import DeadlineExceeded, MalformedField

__all__ = ["FIELD", "PARAMETER", "exceeded", "timeout_of", "within"]

T = TypeVar("T")
FIELD = b"request-timeout-ms"
DIGITS = 10
PARAMETER: dict[str, Any] = {
    "name": "Request-Timeout-Ms",
    "in": "header",
    "description": "the milliseconds after which nobody wants the answer any more",
    "schema": {"type": "integer", "minimum": 1, "maximum": 10**DIGITS - 1},
}


def timeout_of(request: Posted, *, otherwise: int) -> int:
    """The milliseconds that the request gives itself, from when its head was read, or `otherwise`; 0 for no end. Raises
    MalformedField."""
    text = request.field(FIELD)
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS and int(text)):
        raise MalformedField("Request-Timeout-Ms must be a whole number of milliseconds from 1 on, such as 250")
    return int(text)


async def within(milliseconds: int, answer: Awaitable[T]) -> T:
    """The answer, if it comes in time. Raises DeadlineExceeded at once when it does not; of the work for it nothing is
    begun any more."""
    token = DEADLINE.set(time.monotonic() + milliseconds / 1000)
    try:
        async with asyncio.timeout(milliseconds / 1000) as limit:
            return await answer
    except TimeoutError:
        if limit.expired():
            raise exceeded(milliseconds) from None
        raise
    finally:
        DEADLINE.reset(token)


def exceeded(milliseconds: int) -> DeadlineExceeded:
    """The refusal that says so."""
    return DeadlineExceeded(f"the answer was not there within {milliseconds} ms")
