"""Large bodies and answers on threads of their own, and how long a body will have to wait."""

import asyncio
import contextlib
import threading
from contextvars import ContextVar
from functools import partial

import pytest

from service.api.aside import NEWEST, Aside
from tests.service.programs import PATIENCE

SIZE = 1000
ASKED = ContextVar("asked", default="")


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_answer_is_written_while_bodies_wait_which_are_read_in_their_order() -> None:
    aside, gate, read = Aside(), threading.Event(), list[int]()

    def reading(number: int) -> int:
        assert gate.wait(PATIENCE)
        read.append(number)
        return number

    bodies = [asyncio.create_task(aside.read(partial(reading, number), SIZE)) for number in range(3)]
    await turns()
    assert aside.unread_bytes == 3 * SIZE
    assert await aside.write(lambda: "written") == "written"
    assert read == []
    gate.set()
    assert await asyncio.gather(*bodies) == read == [0, 1, 2]
    assert aside.unread_bytes == 0


async def test_what_is_expected_follows_what_reading_took_of_late() -> None:
    now = 0.0

    def reading(seconds: float) -> None:
        nonlocal now
        now += seconds

    aside, gate = Aside(clock=lambda: now), threading.Event()
    for _ in range(30):
        await aside.read(lambda: reading(2.0), SIZE)
    assert aside.expected_seconds() == 0, "nothing waits"
    waiting = [asyncio.create_task(aside.read(lambda: gate.wait(PATIENCE), size)) for size in (SIZE, 2 * SIZE)]
    await turns()
    assert aside.expected_seconds() == pytest.approx(6.0, rel=(1 - NEWEST) ** 30 + 1e-9)
    gate.set()
    await asyncio.gather(*waiting)
    await aside.read(lambda: reading(0.0), SIZE)
    assert aside.expected_seconds() == 0


async def test_a_body_that_nobody_waits_for_any_more_is_not_read_and_does_not_count() -> None:
    aside, gate, read = Aside(), threading.Event(), list[str]()
    first = asyncio.create_task(aside.read(lambda: gate.wait(PATIENCE), SIZE))
    gone = asyncio.create_task(aside.read(lambda: read.append("gone"), SIZE))
    await turns()
    gone.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await gone
    assert aside.unread_bytes == SIZE
    gate.set()
    assert await first
    await aside.read(lambda: read.append("next"), SIZE)
    assert read == ["next"]


async def test_failures_are_the_callers_and_it_is_still_the_same_request() -> None:
    aside = Aside()

    def fails() -> None:
        raise ValueError(ASKED.get())

    ASKED.set("of this request")
    for work in (aside.read(fails, SIZE), aside.write(fails)):
        with pytest.raises(ValueError, match="of this request"):
            await work
    assert aside.unread_bytes == 0
