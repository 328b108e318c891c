"""The batcher and the clock: what is too late is never run, and a pass that hangs is a fault."""

import asyncio

import pytest

from bundle.calibration import Floats
from bundle.operations import Method
from service.engine.batcher import Batcher
from service.errors import DeadlineExceeded
from tests.service.programs import Program, rows_of
from tests.service.test_batcher_limits import assert_answered, blocked, make_batcher, submit


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


async def test_what_is_past_its_deadline_when_its_turn_comes_is_never_run() -> None:
    program, clock = Program(), Clock()
    batcher = make_batcher(program, clock)
    first = await blocked(program, batcher)
    late, early, any_time = (
        asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(value), deadline=deadline))
        for value, deadline in ((1, 101.0), (2, 103.0), (3, None))
    )
    await asyncio.sleep(0)
    clock.now = 101.0
    program.release()
    with pytest.raises(DeadlineExceeded):
        await late
    await asyncio.gather(first, early, any_time)
    assert_answered(early, 2)
    assert_answered(any_time, 3)
    assert program.batches == [1, 2]
    assert (batcher.tally.expired, batcher.pending_rows) == (1, 0)
    await batcher.close(5)


async def passes(deadlines: list[float | None], *, seconds: float) -> tuple[list[int], int]:
    """The rows of each pass, whose rows take so many seconds each, which was measured, and how many requests of one row
    were too late; they come together, while a first pass is under way."""
    clock = Clock()

    def takes(_: Method, rows: Floats) -> None:
        clock.now += seconds * len(rows)

    program = Program(takes)
    measured = {1: seconds, 4: 4 * seconds}
    batcher = Batcher(program, max_batch_rows=4, max_pending_rows=100, forward_seconds=measured, clock=clock)
    first = await blocked(program, batcher)
    crowd = [asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(1), deadline=until)) for until in deadlines]
    await asyncio.sleep(0)
    program.release()
    await first
    results = await asyncio.gather(*crowd, return_exceptions=True)
    await batcher.close(5)
    assert {type(result) for result in results} <= {tuple, DeadlineExceeded}
    return program.batches[1:], sum(isinstance(result, DeadlineExceeded) for result in results)


async def test_no_pass_is_begun_for_what_it_would_answer_too_late() -> None:
    """A row takes 1 s. Without this an overloaded queue, first in, first out, answers everybody just too late."""
    assert await passes([101.5, 102.5, 102.5, 110.0], seconds=1) == ([1, 1], 2)


async def test_a_batch_is_as_large_as_the_first_of_its_deadlines_allows() -> None:
    assert await passes([None, 103.5, None, None], seconds=1) == ([2, 2], 0)


async def test_the_last_in_the_queue_is_tried_however_slow_passes_were() -> None:
    """Else nobody would learn that they are no longer slow."""
    assert await passes([101.5], seconds=1) == ([1], 0)


async def after_single_rows(*requests: int) -> list[int]:
    """The passes of requests that come together with a second to be answered in, after thirty of one row have taught
    how long a pass takes: 5 ms, whatever its rows, as on a GPU. Fails when one of them hears that it is too late."""
    clock = Clock()

    def takes(_: Method, __: Floats) -> None:
        clock.now += 0.005

    program = Program(takes)
    batcher = Batcher(program, max_batch_rows=256, max_pending_rows=8192, clock=clock)
    for _ in range(30):
        await batcher.submit(Method.ENCODE, rows_of(1))
    program.batches.clear()
    deadline = clock.now + 1
    await asyncio.gather(*(batcher.submit(Method.ENCODE, rows_of(*range(n)), deadline=deadline) for n in requests))
    await batcher.close(5)
    return program.batches


async def test_traffic_of_single_rows_does_not_make_large_batches_look_as_if_they_came_too_late() -> None:
    assert await after_single_rows(256, 256, 256, 256) == [256] * 4


async def test_a_large_request_on_an_idle_bundle_is_tried_though_it_has_many_parts() -> None:
    """By what it knows here the batcher may think what it likes: a lone request is tried."""
    assert await after_single_rows(1024) == [256] * 4
    clock = Clock()
    program = Program()
    slow = {1: 10.0, 4: 40.0}
    batcher = Batcher(program, max_batch_rows=4, max_pending_rows=100, forward_seconds=slow, clock=clock)
    await batcher.submit(Method.ENCODE, rows_of(*range(10)), deadline=clock.now + 1)
    assert program.batches == [4, 4, 2]
    await batcher.close(5)


async def test_no_part_of_a_split_request_is_run_after_its_deadline() -> None:
    program, clock = Program(), Clock()
    batcher = make_batcher(program, clock)
    program.hold()
    split = asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(*range(10)), deadline=101.0))
    await program.entered()
    clock.now = 101.5
    program.release()
    with pytest.raises(DeadlineExceeded):
        await split
    await asyncio.sleep(0)
    assert program.batches == [4]
    assert batcher.pending_rows == 0
    await batcher.close(5)


async def test_a_forward_pass_that_hangs_is_a_fault_until_it_comes_back() -> None:
    program, clock = Program(), Clock()
    batcher = Batcher(program, max_batch_rows=4, max_pending_rows=8, stall_seconds=30, clock=clock)
    clock.now += 3600
    assert batcher.fault is None, "nothing hangs where nothing is done"
    first = await blocked(program, batcher)
    clock.now += 30
    assert batcher.fault is None
    clock.now += 0.5
    assert batcher.fault == "a forward pass has not come back for more than 30 s"
    assert not batcher.alive
    patient = submit(batcher, 1)
    await asyncio.sleep(0)
    assert batcher.pending_rows == 2, "it may come back, and then this is answered"
    program.release()
    await asyncio.gather(first, patient)
    assert batcher.fault is None
    assert_answered(patient, 1)
    await batcher.close(5)
    assert batcher.fault == "it takes no new work"
