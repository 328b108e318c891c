"""The batcher: requests that wait for the same bundle share a forward pass.

It batches what is waiting and never waits for more, so a lone request on an idle bundle is not delayed.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from bundle.calibration import Floats
from bundle.operations import Method
from service.errors import Draining, InternalError, Overloaded

__all__ = ["Batcher", "Run"]

Outputs = tuple[Floats, ...]
Run = Callable[[Method, Floats], Outputs]

TOO_SLOW = 5
logger = logging.getLogger("diabolo.batcher")


class Entry(NamedTuple):
    """Rows that wait, and the future that their outputs will be set on. The entry owns its reply."""

    method: Method
    rows: Floats
    future: "asyncio.Future[Outputs]"

    @property
    def key(self) -> tuple[Method, tuple[int, ...]]:
        """Entries of equal keys can share a forward pass."""
        return self.method, self.rows.shape[1:]


class Batcher:
    """One queue and one thread in front of `run`, a row-wise function from rows to arrays of as many rows.

    A batch of at most `inline_rows` runs on the event loop itself: handing it to the thread and back costs more than
    such a pass is expected to take, at most `inline_seconds`. Should passes usually take five times as long, which a
    busy machine does not explain, the thread has them again.

    Must be made on the event loop that will use it.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch_rows: int,
        max_pending_rows: int,
        inline_rows: int = 0,
        inline_seconds: float = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._max_batch_rows = max_batch_rows
        self._max_pending_rows = max_pending_rows
        self._inline_rows = inline_rows
        self._inline_seconds = inline_seconds
        self._usual_seconds = 0.0
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Entry] = deque()
        self._on_thread: list[Entry] = []
        self._turn_is_due = self._broken = False
        self._pending_rows = 0
        self._rows_per_second = math.inf
        self._freed = asyncio.Event()
        self._drained = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forward")

    @property
    def alive(self) -> bool:
        """True while requests can be answered; false once closing, or when a fault of its own has broken it."""
        return self._closing is None and not self._broken

    @property
    def pending_rows(self) -> int:
        """Rows that were accepted and are not answered yet."""
        return self._pending_rows

    async def submit(self, method: Method, rows: Floats) -> Outputs:
        """What `run` returns for these rows, shape (n, width), alone or in company.

        More rows than fit into a batch are split and joined again: the answer is whole or an error. Raises Overloaded
        or Draining at the door, InternalError when the forward pass failed.
        """
        if not self.alive:
            raise Draining("this bundle takes no new work")
        if self._pending_rows and self._pending_rows + len(rows) > self._max_pending_rows:
            raise Overloaded(
                f"{self._pending_rows} rows are waiting and at most {self._max_pending_rows} may",
                retry_after=max(1, math.ceil(self._pending_rows / self._rows_per_second)),
            )
        self._pending_rows += len(rows)
        try:
            if len(rows) <= self._max_batch_rows:
                return await self._enqueue(method, rows).future
            return await self._submit_parts(method, rows)
        finally:
            self._pending_rows -= len(rows)
            self._freed.set()

    def _enqueue(self, method: Method, rows: Floats) -> Entry:
        entry = Entry(method, rows, self._loop.create_future())
        self._waiting.append(entry)
        self._schedule()
        return entry

    async def _submit_parts(self, method: Method, rows: Floats) -> Outputs:
        step = self._max_batch_rows
        entries = [self._enqueue(method, rows[start : start + step]) for start in range(0, len(rows), step)]
        try:
            outputs = [await entry.future for entry in entries]
        finally:
            for entry in entries:
                if not entry.future.cancel() and not entry.future.cancelled():
                    entry.future.exception()  # seen, even where an earlier part has failed already
        return tuple(np.concatenate(pieces) for pieces in zip(*outputs, strict=True))

    async def room(self, rows: int) -> None:
        """So many rows would be taken now and leave half of the queue free, or nothing would be taken any more. Those
        who wait here instead of being refused leave that half to those who cannot wait."""
        while self.alive and self._pending_rows and self._pending_rows + rows > self._max_pending_rows // 2:
            self._freed.clear()
            await self._freed.wait()

    async def close(self, deadline: float) -> None:
        """Nothing new is admitted; what waits is answered within `deadline` seconds, the rest fails as Draining.

        May be called again; every call returns when the first has finished.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._drain(deadline))
        await asyncio.shield(self._closing)

    async def _drain(self, deadline: float) -> None:
        self._freed.set()
        self._schedule()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), deadline)
        self._fail(self._on_thread, Draining("the service stopped during this request's forward pass"))
        self._fail(self._waiting, Draining("the service stopped before this request's turn came"))
        self._waiting.clear()
        self._thread.shutdown(wait=False)

    def _schedule(self) -> None:
        """A turn comes after everything that is due by now: who is about to submit shares the forward pass, and passes
        on the event loop give way to others."""
        if not self._turn_is_due and not self._on_thread:
            self._turn_is_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """The next batch is answered, or handed to the thread."""
        self._turn_is_due = False
        try:
            if batch := self._take():
                self._forward(batch)
            if self._waiting:
                self._schedule()
            elif not self._on_thread and self._closing is not None:
                self._drained.set()
        except Exception:  # a fault of this class: it leaves nobody waiting
            logger.critical("a batcher has broken", exc_info=True)
            self._broken = True
            self._fail(self._waiting, InternalError("this bundle's queue has stopped"))
            self._waiting.clear()
            self._freed.set()
            self._drained.set()

    def _take(self) -> list[Entry]:
        """The entries at the head that fit into one batch; those whose clients have gone are dropped."""
        batch: list[Entry] = []
        rows = 0
        while self._waiting:
            entry = self._waiting[0]
            if entry.future.done():
                self._waiting.popleft()
                continue
            if batch and (entry.key != batch[0].key or rows + len(entry.rows) > self._max_batch_rows):
                break
            batch.append(self._waiting.popleft())
            rows += len(entry.rows)
        return batch

    def _forward(self, batch: list[Entry]) -> None:
        """Every entry of the batch has its outputs or the batch's failure, at once or when the thread is done with it;
        the turns go on either way."""
        try:
            rows = batch[0].rows if len(batch) == 1 else np.concatenate([entry.rows for entry in batch])
            started = self._clock()
            if len(rows) <= self._inline_rows:
                outputs = self._call(batch[0].method, rows)
                self._observe(len(rows), self._clock() - started, inline=True)
                self._deliver(batch, outputs, len(rows))
            else:
                passing = self._loop.run_in_executor(self._thread, self._call, batch[0].method, rows)
                passing.add_done_callback(partial(self._returned, batch, len(rows), started))
                self._on_thread = batch
        except Exception:  # whatever a runtime raises concerns this batch alone
            self._fail_batch(batch)

    def _returned(self, batch: list[Entry], rows: int, started: float, passing: "asyncio.Future[Outputs]") -> None:
        """Called when the thread is done with a batch."""
        self._on_thread = []
        try:
            self._observe(rows, self._clock() - started, inline=False)
            self._deliver(batch, passing.result(), rows)
        except Exception:  # as above
            self._fail_batch(batch)
        self._schedule()

    def _deliver(self, batch: list[Entry], outputs: Outputs, rows: int) -> None:
        if any(len(output) != rows for output in outputs):
            raise RuntimeError(f"{batch[0].method} returned another number of rows than the {rows} it was given")
        if len(batch) == 1 and not batch[0].future.done():
            batch[0].future.set_result(outputs)
            return
        start = 0
        for entry in batch:
            stop = start + len(entry.rows)
            if not entry.future.done():
                entry.future.set_result(tuple([output[start:stop] for output in outputs]))
            start = stop

    def _fail_batch(self, batch: list[Entry]) -> None:
        logger.exception("a forward pass of %s failed", batch[0].method)
        self._fail(batch, InternalError("the forward pass failed"))

    def _call(self, method: Method, rows: Floats) -> Outputs:
        """`run`, whose failures are all plain exceptions: a future cannot carry StopIteration, and what is no Exception
        at all would end the loop."""
        try:
            return self._run(method, rows)
        except BaseException as error:
            raise RuntimeError(f"{method} failed with {type(error).__name__}") from error

    def _observe(self, rows: int, seconds: float, *, inline: bool) -> None:
        """The drain rate follows recent batches, so that Retry-After tells the truth after a change of load; and a
        program that has become slow leaves the event loop."""
        if inline:
            self._usual_seconds = 0.9 * self._usual_seconds + 0.1 * seconds
            if self._usual_seconds > TOO_SLOW * self._inline_seconds:
                logger.warning("forward passes take %.1f ms: the thread has them now", 1000 * self._usual_seconds)
                self._inline_rows = 0
        rate = rows / max(seconds, 1e-6)
        self._rows_per_second = rate if math.isinf(self._rows_per_second) else 0.8 * self._rows_per_second + 0.2 * rate

    @staticmethod
    def _fail(entries: deque[Entry] | list[Entry], error: Exception) -> None:
        for entry in entries:
            if not entry.future.done():
                entry.future.set_exception(error)
