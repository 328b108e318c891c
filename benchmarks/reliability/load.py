"""Load: by the clock, whatever becomes of it, or as much as so many clients that wait for their answers can bring."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import cycle

from benchmarks.reliability.client import Client
from benchmarks.reliability.question import Question
from benchmarks.reliability.tally import Verdict

__all__ = ["by_the_clock", "mixed", "saturating", "saturation", "slept_until", "steady"]

AT_ONCE, WARMING_SECONDS, SATURATION_SECONDS = 16, 1.0, 3.0


async def by_the_clock(
    client: Client, questions: Iterator[Question], *, rate: float, seconds: float, seed: int = 0
) -> None:
    """Questions come at random times, `rate` of them in a second on average, answered or not. Returns when the last
    has been sent."""
    arrivals = random.Random(seed)
    due = time.monotonic()
    end = due + seconds
    while (due := due + arrivals.expovariate(rate)) < end:
        await slept_until(due)
        client.ask(next(questions), due)


@asynccontextmanager
async def steady(client: Client, questions: Iterator[Question], *, rate: float, seed: int = 0) -> AsyncIterator[None]:
    """Questions come by the clock all the while. Raises what has ended that before its time."""
    load = asyncio.create_task(by_the_clock(client, questions, rate=rate, seconds=float("inf"), seed=seed))
    try:
        yield
    finally:
        load.cancel()
        with suppress(asyncio.CancelledError):
            await load


async def saturating(client: Client, questions: Iterator[Question], *, at_once: int, seconds: float) -> None:
    """So many questions are under way at every time; each is followed by the next. Returns when all are answered."""
    loop = asyncio.get_running_loop()
    end = time.monotonic() + seconds

    def ask() -> None:
        if (now := time.monotonic()) < end:
            # Not from within the end of the last: a service that answers at once would fill the stack.
            loop.call_soon(client.ask, next(questions), now, ask)

    for _ in range(at_once):
        ask()
    await slept_until(end)
    await client.quiet()


async def slept_until(due: float) -> None:
    """It is so late, or later."""
    while (left := due - time.monotonic()) > 0:
        await asyncio.sleep(left)


def mixed(questions: Sequence[Question], *, seed: int = 0) -> Iterator[Question]:
    """All of them again and again, in one shuffled order."""
    order = list(questions)
    random.Random(seed).shuffle(order)
    return cycle(order)


async def saturation(client: Client, questions: Iterator[Question]) -> float:
    """How many right answers a second the service gives to a few that wait for them."""
    for seconds in (WARMING_SECONDS, SATURATION_SECONDS):
        start = time.monotonic()
        await saturating(client, questions, at_once=AT_ONCE, seconds=seconds)
    return client.tally.between(start, start + SATURATION_SECONDS).count(Verdict.OK) / SATURATION_SECONDS
