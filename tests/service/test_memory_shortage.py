"""Forward passes that memory does not suffice for: tried in parts, and nobody answers for a neighbour."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.calibration import Floats
from bundle.operations import Method
from service import errors
from service.engine.batcher import Batcher
from service.engine.parts import in_parts
from service.errors import InternalError, OutOfMemory
from tests.bundle_factory import run
from tests.service.programs import Program, rows_of
from tests.service.serving import assert_problem, problem_of_line, serving

TOO_HEAVY = 99.0
Fails = Callable[[Method, Floats], None]


def above(most: int) -> Fails:
    """As a device does that has memory for so many rows."""

    def fails(_: Method, rows: Floats) -> None:
        if len(rows) > most:
            raise MemoryError("secret")

    return fails


def heavy(_: Method, rows: Floats) -> None:
    """As if one row alone took more memory than there is."""
    if (rows[:, 0] == TOO_HEAVY).any():
        raise MemoryError("secret")


def always(_: Method, __: Floats) -> None:
    """As a device does that others have filled."""
    raise MemoryError("secret")


class Once:
    """Memory suffices again at the second try."""

    def __init__(self) -> None:
        self.failed = False

    def __call__(self, _: Method, __: Floats) -> None:
        """Raises the first time."""
        if not self.failed:
            self.failed = True
            raise MemoryError("secret")


async def answers(
    fails: Fails, *requests: Floats, inline: bool = False
) -> tuple[list[tuple[Floats, ...] | BaseException], Program, Batcher]:
    """What these requests get that share one forward pass, and the batches that were tried."""
    program = Program(fails)
    batcher = Batcher(program, max_batch_rows=8, max_pending_rows=100, inline_rows=8 * inline, inline_seconds=1)
    found = await asyncio.gather(*(batcher.submit(Method.ENCODE, rows) for rows in requests), return_exceptions=True)
    assert (batcher.alive, batcher.pending_rows) == (True, 0)
    await batcher.close(5)
    return found, program, batcher


def assert_whole(found: object, rows: Floats) -> None:
    assert isinstance(found, tuple), found
    np.testing.assert_array_equal(found[0], run(Method.ENCODE, rows)[0])


@pytest.mark.parametrize("inline", [False, True], ids=["thread", "event loop"])
@pytest.mark.parametrize(
    ("fails", "tried"),
    [(Once(), [8, 4, 4]), (above(4), [8, 4, 4]), (above(2), [8, 4, 2, 2, 4, 2, 2])],
    ids=["once", "above 4 rows", "above 2 rows"],
)
async def test_a_batch_is_halved_until_memory_suffices_and_everybody_is_answered(
    fails: Fails, tried: list[int], inline: bool
) -> None:
    if isinstance(fails, Once):
        fails.failed = False
    requests = [rows_of(value) for value in range(8)]
    found, program, batcher = await answers(fails, *requests, inline=inline)
    for answer, rows in zip(found, requests, strict=True):
        assert_whole(answer, rows)
    assert program.batches == tried
    assert batcher.tally.memory_shortages == 1


async def test_a_request_that_does_not_fit_alone_is_halved_and_joined_again() -> None:
    large, small = rows_of(1, 2, 3, 4, 5), rows_of(6)
    found, program, _ = await answers(above(2), large, small)
    assert_whole(found[0], large)
    assert_whole(found[1], small)
    assert max(program.batches[1:]) <= 5
    assert program.batches[0] == 6


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_row_that_does_not_fit_alone_is_a_503_and_its_neighbours_have_their_answers(place: int) -> None:
    requests = [rows_of(1), rows_of(2, 3), rows_of(4)]
    requests[place] = rows_of(TOO_HEAVY, *range(len(requests[place]) - 1))
    found, _, batcher = await answers(heavy, *requests)
    assert isinstance(found[place], OutOfMemory)
    assert "secret" not in str(found[place])
    for answer, rows in [pair for index, pair in enumerate(zip(found, requests, strict=True)) if index != place]:
        assert_whole(answer, rows)
    assert batcher.tally.memory_shortages == 1


async def test_where_no_row_fits_everybody_is_refused_and_the_next_is_answered() -> None:
    program = Program(always)
    batcher = Batcher(program, max_batch_rows=8, max_pending_rows=100)
    three = [batcher.submit(Method.ENCODE, rows_of(value, value)) for value in range(3)]
    assert {type(found) for found in await asyncio.gather(*three, return_exceptions=True)} == {OutOfMemory}
    program.fails = None
    assert_whole(await batcher.submit(Method.ENCODE, rows_of(1)), rows_of(1))
    await batcher.close(5)


async def test_another_failure_of_a_part_concerns_that_part_alone(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: Method, rows: Floats) -> None:
        above(1)(_, rows)
        if rows[0, 0] == 2:
            raise ValueError("secret")

    found, _, _ = await answers(fails, rows_of(1), rows_of(2), rows_of(3))
    assert isinstance(found[1], InternalError)
    assert_whole(found[0], rows_of(1))
    assert_whole(found[2], rows_of(3))
    assert [record.levelno for record in caplog.records].count(logging.ERROR) == 1


async def test_who_has_gone_is_not_tried_again() -> None:
    program = Program(above(2))
    batcher = Batcher(program, max_batch_rows=8, max_pending_rows=100)
    program.hold()
    first, second, gone = (asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(value))) for value in (1, 2, 3))
    await program.entered()
    gone.cancel()
    await asyncio.sleep(0)
    program.release()
    for task, value in ((first, 1), (second, 2)):
        assert_whole(await task, rows_of(value))
    assert program.batches == [3, 1, 1]
    await batcher.close(5)


async def test_at_the_deadline_of_the_end_nothing_is_tried_again() -> None:
    program = Program(above(1))
    batcher = Batcher(program, max_batch_rows=8, max_pending_rows=100)
    program.hold()
    waiting = asyncio.create_task(batcher.submit(Method.ENCODE, rows_of(1, 2)))
    await program.entered()
    await batcher.close(0)
    program.release()
    with pytest.raises(errors.Draining):
        await waiting
    await asyncio.to_thread(batcher._thread.shutdown)
    for _ in range(3):
        await asyncio.sleep(0)
    assert program.batches == [2]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 6))
def test_whatever_the_pieces_and_the_memory_are_each_piece_has_its_own_outputs(sizes: list[int], most: int) -> None:
    tried: list[int] = []

    def forward(rows: Floats) -> tuple[Floats, ...]:
        tried.append(len(rows))
        above(most)(Method.ENCODE_DISTRIBUTION, rows)
        return run(Method.ENCODE_DISTRIBUTION, rows)

    pieces = [rows_of(*(10 * place + row for row in range(size))) for place, size in enumerate(sizes)]
    if sum(sizes) < 2:
        return
    for found, piece in zip(in_parts(forward, pieces), pieces, strict=True):
        assert isinstance(found, tuple)
        for output, wanted in zip(found, run(Method.ENCODE_DISTRIBUTION, piece), strict=True):
            np.testing.assert_array_equal(output, wanted)
    assert len(tried) <= 2 * (sum(sizes) + len(sizes))


async def test_a_row_that_no_memory_suffices_for_is_a_problem_and_on_a_stream_it_is_one_in_its_place(
    models: Path,
) -> None:
    program = Program()
    async with serving(models, program) as served:
        program.fails = heavy
        heavy_row = [TOO_HEAVY, 0, 0, 0]
        problem = assert_problem(await served.post("tiny/encode", json={"inputs": [heavy_row]}), errors.OutOfMemory)
        assert "secret" not in str(problem)
        of_line = await problem_of_line(served, "tiny/encode", "[99, 0, 0, 0]\n")
        drawn = {"retry_after_s": of_line.json()["retry_after_s"]}  # each for itself
        assert drawn["retry_after_s"] in {1, 2}
        assert of_line.json() == {**problem, **drawn, "request_id": of_line.headers["x-request-id"]}
        assert (await served.post("tiny/encode", json={"inputs": [[1, 0, 0, 0]]})).status_code == 200
