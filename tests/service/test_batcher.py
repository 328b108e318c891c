"""The batcher: who shares a forward pass, what comes back, and what a failing one leaves behind."""

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.calibration import Floats
from bundle.operations import Method
from service.engine.batcher import Batcher, Run
from service.errors import InternalError
from tests.bundle_factory import LATENT_SIZE, SIZE, run
from tests.service.programs import Program, rows_of

MAX = 4


@contextlib.asynccontextmanager
async def batching(program: Run, *, max_batch_rows: int = MAX) -> AsyncIterator[Batcher]:
    batcher = Batcher(program, max_batch_rows=max_batch_rows, max_pending_rows=1000)
    try:
        yield batcher
    finally:
        await batcher.close(5)


def assert_equal(answer: tuple[Floats, ...], method: Method, rows: Floats) -> None:
    expected = run(method, rows)
    assert len(answer) == len(expected)
    for found, wanted in zip(answer, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert found.shape == wanted.shape


async def test_a_lone_request_on_an_idle_bundle_waits_for_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    async with batching(program) as batcher:
        loop = asyncio.get_running_loop()

        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("a timer was set")

        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_at", refuse)
            patch.setattr(loop, "call_later", refuse)
            answer = await batcher.submit(Method.RECONSTRUCT, rows_of(1))
        assert_equal(answer, Method.RECONSTRUCT, rows_of(1))
        assert (program.batches, batcher.pending_rows) == ([1], 0)


async def test_small_batches_run_on_the_event_loop_and_larger_ones_on_the_thread() -> None:
    threads: list[tuple[int, bool]] = []

    def program(method: Method, rows: Floats) -> tuple[Floats, ...]:
        threads.append((len(rows), threading.current_thread() is threading.main_thread()))
        return run(method, rows)

    batcher = Batcher(program, max_batch_rows=4, max_pending_rows=100, inline_rows=2, inline_seconds=1)
    for rows in (rows_of(1), rows_of(1, 2), rows_of(1, 2, 3)):
        assert_equal(await batcher.submit(Method.RECONSTRUCT, rows), Method.RECONSTRUCT, rows)
    await batcher.close(5)
    assert threads == [(1, True), (2, True), (3, False)]


async def test_a_program_that_has_become_slow_leaves_the_event_loop_until_it_no_longer_is() -> None:
    now = 0.0
    takes = 0.0
    threads: list[bool] = []

    def program(method: Method, rows: Floats) -> tuple[Floats, ...]:
        nonlocal now
        now += takes
        threads.append(threading.current_thread() is threading.main_thread())
        return run(method, rows)

    batcher = Batcher(
        program, max_batch_rows=4, max_pending_rows=100, inline_rows=4, inline_seconds=0.03, clock=lambda: now
    )

    async def on_the_event_loop(seconds: float, passes: int) -> list[bool]:
        nonlocal takes
        takes = seconds
        threads.clear()
        for _ in range(passes):
            await batcher.submit(Method.RECONSTRUCT, rows_of(1))
        return list(threads)

    # The mean over about ten passes counts: 0.1, then 0.19 s, are compared with five times 0.03.
    assert await on_the_event_loop(1, 5) == [True, True, False, False, False]
    # From 0.41 s down by a tenth each, below 0.03 after 25 passes: a short one now and then proves nothing.
    assert await on_the_event_loop(0, 27) == 25 * [False] + [True, True]
    await batcher.close(5)


async def test_a_failure_on_the_event_loop_concerns_its_batch_alone() -> None:
    def fails(_: Method, rows: Floats) -> None:
        if rows[0, 0] == rows_of(1)[0, 0]:
            raise SystemExit("a program must not end the service")

    batcher = Batcher(Program(fails), max_batch_rows=4, max_pending_rows=100, inline_rows=4, inline_seconds=1)
    with pytest.raises(InternalError):
        await batcher.submit(Method.RECONSTRUCT, rows_of(1))
    other = rows_of(1) + 1
    assert_equal(await batcher.submit(Method.RECONSTRUCT, other), Method.RECONSTRUCT, other)
    await batcher.close(5)


async def test_what_waits_is_batched_up_to_the_limit_in_order() -> None:
    program = Program()
    async with batching(program) as batcher:
        program.hold()
        first = asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(0)))
        await program.entered()
        waiting = [asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(value))) for value in range(1, 6)]
        await asyncio.sleep(0)
        assert batcher.pending_rows == 6
        program.release()
        for value, task in enumerate([first, *waiting]):
            assert_equal(await task, Method.ENCODE, rows_of(value))
        assert program.batches == [1, 4, 1]


@pytest.mark.parametrize("others", [1, 15, 63, 200])
async def test_company_costs_the_first_one_pass_at_most(others: int) -> None:
    """Whoever waits is in the very next pass, however many come after."""
    program = Program()
    async with batching(program, max_batch_rows=64) as batcher:

        async def passes_until_answered() -> int:
            await batcher.submit(Method.ENCODE, rows_of(1))
            return len(program.batches)

        program.hold()
        busy = asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(0)))
        await program.entered()
        first = asyncio.create_task(passes_until_answered())
        await asyncio.sleep(0)
        crowd = [asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(2))) for _ in range(others)]
        await asyncio.sleep(0)
        program.release()
        assert await first == 2
        await asyncio.gather(busy, *crowd)
        assert program.batches[:2] == [1, min(1 + others, 64)]


async def test_methods_and_shapes_do_not_share_a_forward_pass() -> None:
    program = Program()
    async with batching(program) as batcher:
        program.hold()
        calls = [
            (Method.ENCODE, rows_of(0)),
            (Method.ENCODE, rows_of(1)),
            (Method.ANOMALY_SCORE, rows_of(2)),
            (Method.DECODE, rows_of(3)[:, :LATENT_SIZE]),
            (Method.DECODE, rows_of(4)),
        ]
        tasks = [asyncio.create_task(batcher.submit(*calls[0]))]
        await program.entered()
        tasks += [asyncio.create_task(batcher.submit(*call)) for call in calls[1:]]
        await asyncio.sleep(0)
        program.release()
        for call, task in zip(calls, tasks, strict=True):
            assert_equal(await task, *call)
        assert program.batches == [1, 1, 1, 1, 1]


Requests = list[tuple[Method, int]]
METHODS = [Method.ENCODE, Method.DECODE, Method.RECONSTRUCT, Method.ANOMALY_SCORE, Method.ENCODE_DISTRIBUTION]


@given(
    requests=st.lists(st.tuples(st.sampled_from(METHODS), st.integers(0, 11)), min_size=1, max_size=12),
    max_batch_rows=st.integers(1, 5),
)
@settings(max_examples=100)
async def test_any_partition_into_requests_gives_what_unbatched_rows_give(
    requests: Requests, max_batch_rows: int
) -> None:
    """Bit-equal, because the tiny program's arithmetic does not depend on its neighbours."""
    program = Program()
    generator = np.random.default_rng(len(requests))
    calls = []
    for method, count in requests:
        width = LATENT_SIZE if method is Method.DECODE else SIZE
        calls.append((method, generator.standard_normal((count, width), dtype=np.float32)))
    async with batching(program, max_batch_rows=max_batch_rows) as batcher:
        answers = await asyncio.gather(*(batcher.submit(*call) for call in calls))
        for answer, call in zip(answers, calls, strict=True):
            assert_equal(answer, *call)
        assert batcher.pending_rows == 0
    assert max(program.batches) <= max_batch_rows
    assert sum(program.batches) == sum(count for _, count in requests)


@pytest.mark.parametrize("count", [0, 1, 2, MAX, MAX + 1, 3 * MAX])
async def test_every_number_of_rows_comes_back_whole(count: int) -> None:
    program = Program()
    async with batching(program) as batcher:
        rows = rows_of(*range(count))
        assert_equal(await batcher.submit(Method.RECONSTRUCT, rows), Method.RECONSTRUCT, rows)
        assert_equal(await batcher.submit(Method.ANOMALY_SCORE, rows), Method.ANOMALY_SCORE, rows)


class Broken(BaseException):
    """What is no Exception, as some libraries raise."""


FAULTS = [
    RuntimeError("secret"),
    StopIteration("secret"),
    Broken("secret"),
    SystemExit("secret"),
    asyncio.CancelledError("secret"),
    concurrent.futures.CancelledError("secret"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_a_failed_batch_fails_alone_and_the_next_one_is_answered(
    fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Method, rows: Floats) -> None:
        if (rows == -1).any():
            raise fault

    program = Program(fails)
    async with batching(program) as batcher:
        program.hold()
        before = asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(5)))
        await program.entered()
        poisoned = [asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(value))) for value in (1, -1)]
        after = asyncio.create_task(batcher.submit(Method.RECONSTRUCT, rows_of(6)))
        await asyncio.sleep(0)
        program.release()
        results = await asyncio.gather(before, *poisoned, after, return_exceptions=True)
        assert [type(result) for result in results] == [tuple, InternalError, InternalError, tuple]
        assert "secret" not in str(results[1])
        assert batcher.alive
        assert batcher.pending_rows == 0
        assert_equal(await batcher.submit(Method.ENCODE, rows_of(7)), Method.ENCODE, rows_of(7))
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is not None
    assert record.exc_info[1].__cause__ is fault


WrongAnswer = Callable[[Method, Floats], tuple[Floats, ...]]


def _one_row_less(method: Method, rows: Floats) -> tuple[Floats, ...]:
    return tuple(output[:-1] for output in run(method, rows))


def _one_row_more(method: Method, rows: Floats) -> tuple[Floats, ...]:
    return run(method, np.concatenate([rows, rows[:1]]))


def _second_output_short(method: Method, rows: Floats) -> tuple[Floats, ...]:
    return (*run(method, rows), rows[:-1])


def _no_rows_at_all(method: Method, rows: Floats) -> tuple[Floats, ...]:
    return (np.float32(run(method, rows)[0].sum()),)  # type: ignore[return-value]  # the fault under test


@pytest.mark.parametrize("wrong", [_one_row_less, _one_row_more, _second_output_short, _no_rows_at_all])
async def test_another_number_of_rows_than_went_in_is_a_failure(wrong: WrongAnswer) -> None:
    answers = [wrong, run]
    async with batching(lambda method, rows: answers.pop(0)(method, rows)) as batcher:
        with pytest.raises(InternalError):
            await batcher.submit(Method.ENCODE, rows_of(1, 2))
        assert_equal(await batcher.submit(Method.ENCODE, rows_of(1, 2)), Method.ENCODE, rows_of(1, 2))


async def test_a_request_larger_than_a_batch_is_split_and_joined() -> None:
    program = Program()
    async with batching(program) as batcher:
        rows = rows_of(*range(10))
        assert_equal(await batcher.submit(Method.ENCODE_DISTRIBUTION, rows), Method.ENCODE_DISTRIBUTION, rows)
        assert program.batches == [4, 4, 2]


@pytest.mark.parametrize("failing_part", [0, 1, 2])
async def test_a_split_request_is_never_partly_answered(failing_part: int) -> None:
    parts = 0

    def fails(_: Method, __: Floats) -> None:
        nonlocal parts
        parts += 1
        if parts == failing_part + 1:
            raise RuntimeError

    async with batching(Program(fails)) as batcher:
        unseen: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        with pytest.raises(InternalError):
            await batcher.submit(Method.ENCODE, rows_of(*range(10)))
        assert batcher.pending_rows == 0
        assert_equal(await batcher.submit(Method.ENCODE, rows_of(1)), Method.ENCODE, rows_of(1))
        assert unseen == []
