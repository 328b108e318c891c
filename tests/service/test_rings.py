"""What failed leaves no ring behind: it would hold what was sent until the collector comes, which is seldom."""

import asyncio
import gc
import logging
import weakref

import pytest

from bundle.calibration import Floats
from bundle.operations import Method
from service.errors import DeadlineExceeded, InternalError
from tests.service.programs import Program, rows_of
from tests.service.test_batcher_limits import blocked, make_batcher
from tests.service.test_batcher_time import Clock


@pytest.mark.parametrize("count", [1, 7], ids=["of one pass", "of several passes"])
@pytest.mark.parametrize("late", [True, False], ids=["late", "failed"])
async def test_rows_that_are_not_answered_are_freed_with_their_request(
    monkeypatch: pytest.MonkeyPatch, count: int, late: bool
) -> None:
    def fails(_: Method, rows: Floats) -> None:
        if rows.any() and not late:
            raise ValueError

    monkeypatch.setattr(logging.getLogger("diabolo.batcher"), "disabled", True)  # pytest would keep the traceback
    program, clock = Program(fails), Clock()
    batcher = make_batcher(program, clock)
    first = await blocked(program, batcher)
    rows = rows_of(*range(1, count + 1))
    freed = weakref.ref(rows)
    waiting = asyncio.create_task(batcher.submit(Method.ENCODE, rows, deadline=101.0))
    await asyncio.sleep(0)
    del rows
    clock.now += 2 * late
    gc.disable()
    try:
        program.release()
        with pytest.raises(DeadlineExceeded if late else InternalError):
            await waiting
        del waiting
        await first
        for _ in range(5):
            await asyncio.sleep(0)
        assert freed() is None
    finally:
        gc.enable()
    await batcher.close(5)
