"""Rows that wait for a forward pass: how many may, in what order they go, and how long that takes."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from bundle.calibration import Floats
from bundle.operations import Method
from service.engine.pace import Pace
from service.engine.tally import Tally
from service.engine.timeline import Stage, Timeline
from service.errors import DeadlineExceeded, Overloaded

__all__ = ["Entry", "Outputs", "Queue"]

Outputs = tuple[Floats, ...]


class Entry(NamedTuple):
    """Rows that wait, and the future that their outputs will be set on. The entry owns its reply. After `deadline`, by
    the batcher's clock, nobody wants it; `queued` is its waiting in the timeline of its request, of which so many
    `more` entries come right behind it."""

    method: Method
    rows: Floats
    future: "asyncio.Future[Outputs]"
    deadline: float | None
    timeline: Timeline
    queued: Stage
    more: int = 0

    @property
    def key(self) -> tuple[Method, tuple[int, ...]]:
        """Entries of equal keys can share a forward pass."""
        return self.method, self.rows.shape[1:]


class Queue:
    """Entries in order, and the bounds of all rows that were accepted and are not answered yet."""

    def __init__(
        self,
        *,
        max_rows: int,
        max_bytes: int,
        max_batch_rows: int,
        pace: Pace,
        clock: Callable[[], float],
        tally: Tally,
    ) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._max_batch_rows = max_batch_rows
        self._pace = pace
        self._clock = clock
        self._tally = tally
        self.entries: deque[Entry] = deque()
        """Those that wait, in order."""
        self._freed = asyncio.Event()
        self.rows = self.bytes = 0
        """Accepted and not answered yet."""

    def accept(self, rows: Floats) -> None:
        """These rows count from here on, until `release`. Raises Overloaded where a bound forbids them; an idle queue
        takes what is larger than its bounds."""
        if self.rows:
            if self.rows + len(rows) > self._max_rows:
                self._tally.refused_for_rows += 1
                raise self._overloaded(f"{self.rows} rows are waiting and at most {self._max_rows} may")
            if self.bytes + rows.nbytes > self._max_bytes:
                self._tally.refused_for_bytes += 1
                raise self._overloaded(f"rows of {self.bytes} bytes are waiting and at most {self._max_bytes} may")
        self.rows += len(rows)
        self.bytes += rows.nbytes

    def release(self, rows: Floats) -> None:
        """These rows count no longer."""
        self.rows -= len(rows)
        self.bytes -= rows.nbytes
        self._freed.set()

    async def room(self, rows: Floats, *, open_still: Callable[[], bool]) -> None:
        """These rows would be taken now and leave half of the queue free, or it is not open any more."""
        while (
            open_still()
            and self.rows
            and (self.rows + len(rows) > self._max_rows // 2 or self.bytes + rows.nbytes > self._max_bytes // 2)
        ):
            self._freed.clear()
            await self._freed.wait()

    def wake(self) -> None:
        """Those who wait for room look again."""
        self._freed.set()

    def take(self) -> list[Entry]:
        """The entries at the head that fit into one batch, of so few rows that by the pace of recent passes it is done
        before the first of their deadlines. Those that nobody wants any more are dropped: their clients have gone, or
        there is no time left for their pass. Without that an overloaded queue, first in, first out, works on nothing
        but what comes too late."""
        batch: list[Entry] = []
        rows = 0
        latest = math.inf
        entries = self.entries
        while entries:
            entry = entries[0]
            if (entry.future.done() or entry.deadline is not None) and self._unwanted(entry):
                entries.popleft()
                continue
            if batch and (entry.key != batch[0].key or rows + len(entry.rows) > self._max_batch_rows):
                break
            if entry.deadline is not None:
                latest = min(latest, entry.deadline)
            if batch and latest < math.inf and self._clock() + self._pace.seconds(rows + len(entry.rows)) > latest:
                break
            batch.append(entries.popleft())
            rows += len(entry.rows)
        return batch

    def fail(self, error: Exception) -> None:
        """Nobody waits any more; all who did have this error."""
        while self.entries:
            entry = self.entries.popleft()
            if not entry.future.done():
                entry.future.set_exception(error)
        self._freed.set()

    def _unwanted(self, entry: Entry) -> bool:
        if entry.future.done():
            self._tally.dropped += 1
            return True
        # Where no other request waits this one is tried however slow passes were: it keeps nobody from being in time,
        # and else nobody would learn that they no longer are.
        needed = self._pace.seconds(len(entry.rows)) if len(self.entries) > 1 + entry.more else 0.0
        now = self._clock()
        if entry.deadline is not None and (entry.deadline <= now or entry.deadline < now + needed):
            self._tally.expired += 1
            entry.future.set_exception(DeadlineExceeded("there was no time left when this request's turn came"))
            return True
        return False

    def _overloaded(self, detail: str) -> Overloaded:
        seconds = self._pace.seconds_in_batches(self.rows, most=self._max_batch_rows)
        return Overloaded(detail, retry_after=max(1, math.ceil(seconds)))
