"""The batcher: requests that wait for the same bundle share a forward pass.

It batches what is waiting and never waits for more, so a lone request on an idle bundle is not delayed.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np

from bundle.calibration import Floats
from bundle.operations import Method
from service.engine.pace import Pace
from service.engine.parts import cut, in_parts
from service.engine.tally import Tally
from service.engine.timeline import TIMELINE, Stage
from service.engine.waiting import Entry, Outputs, Queue
from service.errors import Draining, InternalError, OutOfMemory

__all__ = ["UNBOUNDED", "Batcher", "Run"]

R = TypeVar("R")
Run = Callable[[Method, Floats], Outputs]

UNBOUNDED = 2**62
TOO_SLOW = 5
logger = logging.getLogger("diabolo.batcher")


class Batcher:
    """One queue and one thread in front of `run`, a row-wise function from rows to arrays of as many rows, which raises
    MemoryError for more rows than it has memory for.

    A batch of at most `inline_rows` runs on the event loop itself: handing it to the thread and back costs more than
    such a pass is expected to take, at most `inline_seconds`. While passes usually take five times as long, the thread
    has them, until they are as short again as expected. `forward_seconds` is how long passes of so many rows took when
    they were measured, if they were.

    Must be made on the event loop that will use it.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch_rows: int,
        max_pending_rows: int,
        max_pending_bytes: int = UNBOUNDED,
        inline_rows: int = 0,
        inline_seconds: float = 0,
        forward_seconds: Mapping[int, float] | None = None,
        stall_seconds: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
    ) -> None:
        self._run = run
        self.tally = tally or Tally()
        self._max_batch_rows = max_batch_rows
        self._short_rows = inline_rows
        self._inline_seconds = inline_seconds
        self._stall_seconds = stall_seconds
        self._usual_seconds = self._pass_seconds = 0.0
        self._slow = False
        self._passing = Stage("forward")
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._pace = Pace(forward_seconds)
        self.queue = Queue(
            max_rows=max_pending_rows,
            max_bytes=max_pending_bytes,
            max_batch_rows=max_batch_rows,
            pace=self._pace,
            clock=clock,
            tally=self.tally,
        )
        self._on_thread: list[Entry] = []
        self._on_thread_since = 0.0
        self._turn_is_due = self._broken = False
        self._drained = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forward")

    @property
    def fault(self) -> str | None:
        """Why requests are not answered just now; None while they are."""
        if self._broken:
            return "its queue has stopped"
        if self._closing is not None:
            return "it takes no new work"
        if self._on_thread and self._clock() - self._on_thread_since > self._stall_seconds:
            return f"a forward pass has not come back for more than {self._stall_seconds:g} s"
        return None

    @property
    def alive(self) -> bool:
        """True while requests are answered; false once closing, when a fault of its own has broken it, and for as long
        as a forward pass hangs."""
        return self.fault is None

    @property
    def pending_rows(self) -> int:
        """Rows that were accepted and are not answered yet."""
        return self.queue.rows

    async def submit(self, method: Method, rows: Floats, *, deadline: float | None = None) -> Outputs:
        """What `run` returns for these rows, shape (n, width), alone or in company.

        More rows than fit into a batch are split and joined again: the answer is whole or an error. Raises Overloaded
        or Draining at the door; DeadlineExceeded when `deadline` passes, by the clock, before they are run;
        InternalError or OutOfMemory when the forward pass failed.
        """
        if self._broken or self._closing is not None:
            raise Draining("this bundle takes no new work")
        self.queue.accept(rows)
        future: asyncio.Future[Outputs] = self._loop.create_future()
        try:
            if len(rows) > self._max_batch_rows:
                return await self._joined(method, rows, deadline)
            timeline = TIMELINE.get()
            queued = timeline.begin("queue", self._clock())
            self.queue.entries.append(Entry(method, rows, future, deadline, timeline, queued))
            self._schedule()
            return await future
        finally:
            self.queue.release(rows)
            del future  # with its error it would be a ring, which holds what was sent until the collector comes

    async def _joined(self, method: Method, rows: Floats, deadline: float | None) -> Outputs:
        step = self._max_batch_rows
        parts = [rows[start : start + step] for start in range(0, len(rows), step)]
        now, timeline = self._clock(), TIMELINE.get()
        entries = [
            Entry(method, part, self._loop.create_future(), deadline, timeline, timeline.begin("queue", now), more)
            for more, part in zip(reversed(range(len(parts))), parts, strict=True)
        ]
        self.queue.entries.extend(entries)
        self._schedule()
        outputs = []
        try:
            for entry in entries:  # a comprehension would have a frame, which keeps the entry
                outputs.append(await entry.future)
        finally:
            for entry in entries:
                if not entry.future.cancel() and not entry.future.cancelled():
                    entry.future.exception()  # seen, even where an earlier part has failed already
            del entry, entries  # as in `submit`
        return tuple(np.concatenate(pieces) for pieces in zip(*outputs, strict=True))

    async def room(self, rows: Floats) -> None:
        """These rows would be taken now and leave half of the queue free, or nothing would be taken any more. Those who
        wait here instead of being refused leave that half to those who cannot wait."""
        await self.queue.room(rows, open_still=lambda: self._closing is None and not self._broken)

    async def close(self, deadline: float) -> None:
        """Nothing new is admitted; what waits is answered within `deadline` seconds, the rest fails as Draining.

        May be called again: the earliest deadline of all calls holds, and they return together.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._drain())
        over = self._loop.call_later(deadline, self._drained.set)
        self._closing.add_done_callback(lambda _: over.cancel())
        await asyncio.shield(self._closing)

    async def _drain(self) -> None:
        self.queue.wake()
        self._schedule()
        await self._drained.wait()
        _fail(self._on_thread, Draining("the service stopped during this request's forward pass"))
        self.queue.fail(Draining("the service stopped before this request's turn came"))
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
            if batch := self.queue.take():
                self._forward(batch)
            if self.queue.entries:
                self._schedule()
            elif not self._on_thread and self._closing is not None:
                self._drained.set()
        except Exception:  # a fault of this class: it leaves nobody waiting
            logger.critical("a batcher has broken", exc_info=True)
            self._broken = True
            self.queue.fail(InternalError("this bundle's queue has stopped"))
            self._drained.set()

    def _forward(self, batch: list[Entry]) -> None:
        """Every entry of the batch has its outputs or the batch's failure, at once or when the thread is done with it;
        the turns go on either way."""
        try:
            now = self._clock()
            passing = self._passing = Stage("forward", method=batch[0].method)
            for entry in batch:
                passing.rows += len(entry.rows)
                self.tally.queue_seconds.observe(entry.timeline.leave_queue(entry.queued, passing, now))
            rows = batch[0].rows if len(batch) == 1 else np.concatenate([entry.rows for entry in batch])
            if len(rows) <= self._short_rows and not self._slow:
                outputs = self._call(batch[0].method, rows)
                self._observe(batch[0].method, len(rows))
                self._deliver(batch, outputs)
            else:
                self._hand_over(batch, partial(self._call, batch[0].method, rows), self._returned)
        except Exception as error:  # whatever a runtime raises concerns this batch alone
            self._failed(batch, error)

    def _hand_over(
        self,
        batch: list[Entry],
        work: Callable[[], R],
        then: "Callable[[list[Entry], asyncio.Future[R]], None]",
    ) -> None:
        """The thread does the work, and `then` what is to be done with its result."""
        self._on_thread_since = self._clock()
        passing = self._loop.run_in_executor(self._thread, work)
        self._on_thread = batch
        passing.add_done_callback(partial(then, batch))

    def _returned(self, batch: list[Entry], passing: "asyncio.Future[Outputs]") -> None:
        """Called when the thread is done with a batch."""
        self._on_thread = []
        try:
            rows = sum(len(entry.rows) for entry in batch)
            self._observe(batch[0].method, rows)
            self._deliver(batch, passing.result())
        except Exception as error:  # as above
            self._failed(batch, error)
        finally:
            del passing  # as in `submit`
        self._schedule()

    def _deliver(self, batch: list[Entry], outputs: Outputs) -> None:
        for entry, own in zip(batch, cut(outputs, [entry.rows for entry in batch]), strict=True):
            if not entry.future.done():
                entry.future.set_result(own)

    def _failed(self, batch: list[Entry], error: Exception) -> None:
        if isinstance(error, MemoryError):
            self._divide(batch)
        else:
            self._passing.failed = True
            logger.error("a forward pass of %s failed", batch[0].method, exc_info=error)
            _fail(batch, InternalError("the forward pass failed"))

    def _divide(self, batch: list[Entry]) -> None:
        """The thread answers the batch in parts. Who shared it with rows that no memory suffices for has an answer."""
        batch = [entry for entry in batch if not entry.future.done()]
        if not batch:
            return
        self.tally.memory_shortages += 1
        method, pieces = batch[0].method, [entry.rows for entry in batch]
        self._passing.failed = True
        self._passing = Stage("forward", rows=sum(map(len, pieces)), method=method)
        for entry in batch:
            entry.timeline.add(self._passing)
        logger.warning("memory did not suffice for %d rows of %s", self._passing.rows, method)
        self._hand_over(batch, partial(in_parts, partial(self._call, method), pieces), self._returned_parts)

    def _returned_parts(self, batch: list[Entry], passing: "asyncio.Future[list[Outputs | Exception]]") -> None:
        self._on_thread = []
        failure = passing.exception()
        results = [failure] * len(batch) if isinstance(failure, Exception) else passing.result()
        for entry, found in zip(batch, results, strict=True):
            if isinstance(found, MemoryError):
                _fail([entry], OutOfMemory("memory does not suffice for these rows at the moment", retry_after=1))
            elif isinstance(found, Exception):
                self._failed([entry], found)
            elif not entry.future.done():
                entry.future.set_result(found)
        self._schedule()

    def _call(self, method: Method, rows: Floats) -> Outputs:
        """`run`, whose failures are all plain exceptions: a future cannot carry StopIteration, and what is no Exception
        at all would end the loop."""
        started = self._clock()
        self._passing.begins(started)
        try:
            return self._run(method, rows)
        except MemoryError:
            raise
        except BaseException as error:
            raise RuntimeError(f"{method} failed with {type(error).__name__}") from error
        finally:
            self._passing.end = ended = self._clock()
            self._pass_seconds = ended - started

    def _observe(self, method: Method, rows: int) -> None:
        """The pace is known; and a program that has become slow leaves the event loop, until it no longer is."""
        self._pace.observe(rows, self._pass_seconds)
        self.tally.batch_rows.observe(rows)
        self.tally.forward_seconds[method].observe(self._pass_seconds)
        if rows > self._short_rows:
            return
        self._usual_seconds = 0.9 * self._usual_seconds + 0.1 * self._pass_seconds
        if self._slow and self._usual_seconds < self._inline_seconds:
            self._slow = False
        elif not self._slow and self._usual_seconds > TOO_SLOW * self._inline_seconds:
            logger.warning("forward passes take %.1f ms: the thread has them now", 1000 * self._usual_seconds)
            self._slow = True


def _fail(entries: Iterable[Entry], error: Exception) -> None:
    for entry in entries:
        if not entry.future.done():
            entry.future.set_exception(error)
