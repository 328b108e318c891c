"""The batcher at its edges: clients that go away, a queue that is full, and the end."""

import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from bundle.calibration import Floats
from bundle.operations import Method
from service.engine.batcher import Batcher
from service.errors import Draining, InternalError, Overloaded
from tests.bundle_factory import run
from tests.service.programs import PATIENCE, Program, rows_of

Answer = asyncio.Task[tuple[Floats, ...]]


def make_batcher(program: Program, clock: Callable[[], float] = time.monotonic) -> Batcher:
    return Batcher(program, max_batch_rows=4, max_pending_rows=8, clock=clock)


def submit(batcher: Batcher, *values: float) -> Answer:
    return asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(*values)))


async def blocked(program: Program, batcher: Batcher) -> Answer:
    """A request whose forward pass has begun and does not end before `program.release()`."""
    program.hold()
    first = submit(batcher, 0)
    await program.entered()
    return first


async def done(task: Answer) -> Answer:
    """The task once it has an answer."""
    await task
    return task


def assert_answered(task: Answer, *values: float) -> None:
    np.testing.assert_array_equal(task.result()[0], run(Method.ENCODE, rows_of(*values))[0])


@pytest.mark.parametrize("begun", [False, True], ids=["while it waits", "during its forward pass"])
@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_one_cancelled_request_of_three_leaves_the_others_their_answers(cancelled: int, begun: bool) -> None:
    program = Program()
    batcher = make_batcher(program)
    first = await blocked(program, batcher)
    three = [submit(batcher, value) for value in (1, 2, 3)]
    await asyncio.sleep(0)
    if begun:
        program.release()
        program.hold()
        await first
        await program.entered()
    three[cancelled].cancel()
    await asyncio.sleep(0)
    program.release()
    results = await asyncio.gather(first, *three, return_exceptions=True)
    assert [type(result) for result in results].count(asyncio.CancelledError) == 1
    for value, task in enumerate(three, start=1):
        if value != cancelled + 1:
            assert_answered(task, value)
    assert program.batches == ([1, 3] if begun else [1, 2])
    assert (batcher.pending_rows, batcher.alive) == (0, True)
    await batcher.close(5)


@pytest.mark.parametrize("clients", [100, 200])
async def test_a_wave_of_clients_that_go_away_at_once_is_forgotten(clients: int) -> None:
    program = Program()
    batcher = Batcher(program, max_batch_rows=32, max_pending_rows=1000)
    first = await blocked(program, batcher)
    wave = [submit(batcher, value, value) for value in range(clients)]
    await asyncio.sleep(0)
    assert batcher.pending_rows == 1 + 2 * clients
    for task in wave:
        task.cancel()
    assert {type(result) for result in await asyncio.gather(*wave, return_exceptions=True)} == {asyncio.CancelledError}
    assert batcher.pending_rows == 1
    program.release()
    await first
    assert batcher.pending_rows == 0
    answers = [submit(batcher, value) for value in range(clients)]
    await asyncio.gather(*answers)
    for value, task in enumerate(answers):
        assert_answered(task, value)
    assert sum(program.batches) == 1 + clients
    await batcher.close(5)


async def test_a_cancelled_split_request_gives_back_all_its_rows() -> None:
    program = Program()
    batcher = make_batcher(program)
    first = await blocked(program, batcher)
    large = submit(batcher, *range(7))
    await asyncio.sleep(0)
    assert batcher.pending_rows == 8
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
    program.release()
    await first
    await batcher.close(5)
    assert program.batches == [1]
    assert batcher.pending_rows == 0


async def test_past_the_bound_a_request_is_refused_at_the_door_and_at_the_bound_it_is_not() -> None:
    program = Program()
    batcher = make_batcher(program)
    first = await blocked(program, batcher)
    fits = submit(batcher, *range(7))
    await asyncio.sleep(0)
    assert batcher.pending_rows == 8
    with pytest.raises(Overloaded, match=r"^8 rows are waiting and at most 8 may$") as refusal:
        await batcher.submit(Method.ENCODE, rows_of(9))
    assert refusal.value.retry_after == 1, "nothing is measured yet"
    program.release()
    await asyncio.gather(first, fits)
    assert_answered(fits, *range(7))
    later = submit(batcher, 9)
    await later
    assert_answered(later, 9)
    await batcher.close(5)


async def test_the_queue_is_bounded_by_bytes_too() -> None:
    program = Program()
    batcher = Batcher(program, max_batch_rows=4, max_pending_rows=100, max_pending_bytes=4 * rows_of(0).nbytes)
    first = await blocked(program, batcher)
    fits = submit(batcher, 1, 2, 3)
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match=r"^rows of 64 bytes are waiting and at most 64 may$"):
        await batcher.submit(Method.ENCODE, rows_of(4))
    narrow = asyncio.create_task(batcher.room(rows_of(4)))
    await asyncio.sleep(0)
    assert not narrow.done()
    program.release()
    await asyncio.gather(first, fits, narrow)
    assert_answered(fits, 1, 2, 3)
    assert (batcher.queue.rows, batcher.queue.bytes) == (0, 0)
    assert (batcher.tally.refused_for_rows, batcher.tally.refused_for_bytes) == (0, 1)
    assert_answered(await done(submit(batcher, 4)), 4)
    await batcher.close(5)


async def test_retry_after_is_the_time_of_the_passes_that_the_waiting_rows_need() -> None:
    """The clock goes on at each look from the thread, so a forward pass takes as long, however many rows it has."""
    program, seconds, now = Program(), 2.0, 0.0

    def clock() -> float:
        nonlocal now
        if threading.current_thread() is not threading.main_thread():
            now += seconds
        return now

    batcher = make_batcher(program, clock)
    await batcher.submit(Method.ENCODE, rows_of(1))
    first = await blocked(program, batcher)
    waiting = submit(batcher, *range(6))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refusal:
        await batcher.submit(Method.ENCODE, rows_of(1, 2))
    assert refusal.value.retry_after == 4, "7 rows are two passes of 2 s, though by the rows of the first it were 14 s"
    assert type(refusal.value.retry_after) is int
    seconds = 2.5
    program.release()
    await asyncio.gather(first, waiting)  # in passes of 1, 4 and 2 rows
    await blocked(program, batcher)
    submit(batcher, *range(7))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refusal:
        await batcher.submit(Method.ENCODE, rows_of(1))
    assert refusal.value.retry_after == 5, "two passes of about 2.25 s: the last ten or so count"
    program.release()
    await batcher.close(5)


async def test_however_fast_the_program_is_a_client_waits_for_a_second() -> None:
    program = Program()
    batcher = make_batcher(program, lambda: 0.0)
    await batcher.submit(Method.ENCODE, rows_of(1))
    first = await blocked(program, batcher)
    with pytest.raises(Overloaded) as refusal:
        await batcher.submit(Method.ENCODE, rows_of(*range(8)))
    assert refusal.value.retry_after == 1
    program.release()
    await first
    await batcher.close(5)


async def test_an_idle_queue_takes_a_request_that_is_larger_than_its_bound() -> None:
    program = Program()
    batcher = make_batcher(program)
    program.hold()
    large = submit(batcher, *range(12))
    await program.entered()
    assert batcher.pending_rows == 12
    with pytest.raises(Overloaded):
        await batcher.submit(Method.ENCODE, rows_of(1))
    program.release()
    await large
    assert_answered(large, *range(12))
    await batcher.close(5)


async def test_closing_admits_nothing_and_answers_what_waits() -> None:
    program = Program()
    batcher = make_batcher(program)
    accepted = [await blocked(program, batcher), submit(batcher, 1), submit(batcher, 2)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(batcher.close(5))
    await asyncio.sleep(0)
    assert not batcher.alive
    with pytest.raises(Draining):
        await batcher.submit(Method.ENCODE, rows_of(3))
    assert not closing.done()
    program.release()
    await closing
    for value, task in enumerate(accepted):
        await task
        assert_answered(task, value)


async def test_closing_an_idle_batcher_ends_at_once() -> None:
    batcher = make_batcher(Program())
    await batcher.close(0)
    assert not batcher.alive
    with pytest.raises(Draining):
        await batcher.submit(Method.ENCODE, rows_of(1))


async def test_at_the_deadline_the_rest_fails_and_nobody_is_left_waiting() -> None:
    program = Program()
    batcher = make_batcher(program)
    accepted = [await blocked(program, batcher), submit(batcher, 1), submit(batcher, *range(6))]
    await asyncio.sleep(0)
    await batcher.close(0)
    results = await asyncio.gather(*accepted, return_exceptions=True)
    assert [type(result) for result in results] == [Draining, Draining, Draining]
    assert batcher.pending_rows == 0
    program.release()


async def test_closing_twice_at_once_and_once_more_is_closing_once() -> None:
    program = Program()
    batcher = make_batcher(program)
    first = await blocked(program, batcher)
    closing = [asyncio.create_task(batcher.close(5)) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in closing)
    program.release()
    await asyncio.gather(*closing)
    await batcher.close(5)
    await first
    assert_answered(first, 0)


@pytest.mark.parametrize("deadlines", [(PATIENCE, 0), (0, PATIENCE)])
async def test_of_several_closings_the_earliest_deadline_holds(deadlines: tuple[float, float]) -> None:
    program = Program()
    batcher = make_batcher(program)
    first = await blocked(program, batcher)
    async with asyncio.timeout(PATIENCE / 2):
        await asyncio.gather(*(batcher.close(deadline) for deadline in deadlines))
    with pytest.raises(Draining):
        await first
    program.release()


async def test_a_caller_that_stops_waiting_for_the_close_does_not_stop_it() -> None:
    program = Program()
    batcher = make_batcher(program)
    first = await blocked(program, batcher)
    impatient = asyncio.create_task(batcher.close(5))
    await asyncio.sleep(0)
    impatient.cancel()
    program.release()
    await batcher.close(5)
    await first
    assert_answered(first, 0)


async def test_a_batcher_that_a_fault_of_its_own_breaks_turns_alive_false_and_fails_whoever_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault() -> None:
        raise RuntimeError("a fault of the batcher itself")

    program = Program()
    batcher = make_batcher(program)
    first = await blocked(program, batcher)
    waiting = [submit(batcher, 1), submit(batcher, *range(5))]
    await asyncio.sleep(0)
    monkeypatch.setattr(batcher.queue, "take", fault)
    program.release()
    results = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert [type(result) for result in results] == [tuple, InternalError, InternalError]
    assert (batcher.alive, batcher.pending_rows) == (False, 0)
    with pytest.raises(Draining):
        await batcher.submit(Method.ENCODE, rows_of(1))
    assert "a batcher has broken" in caplog.text
    await batcher.close(5)
