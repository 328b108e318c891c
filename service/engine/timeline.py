"""What a request goes through and when: for its line in the log, and for its trace.

Times are those of `time.monotonic`. Stages are recorded for every request, so recording one costs well under a
microsecond.
"""

from collections.abc import Iterable
from contextvars import ContextVar
from time import monotonic
from typing import Literal, NamedTuple

from bundle.operations import Method

__all__ = ["TIMELINE", "Spent", "Stage", "Timeline"]

Name = Literal["decode", "queue", "forward", "encode"]
MOST = 64


class Stage:
    """A part of a request's way. `start` is None before it begins, `end` until it ends. A forward pass is one stage of
    all requests that share it: `rows` are those of the batch, `method` is what was run, `failed` whether that failed.
    """

    __slots__ = ("end", "failed", "method", "name", "rows", "start")

    def __init__(self, name: Name, start: float | None = None, *, rows: int = 0, method: Method | None = None) -> None:
        self.name = name
        self.start = start
        self.end: float | None = None
        self.rows = rows
        self.method = method
        self.failed = False

    def ends(self) -> float:
        """It has ended now; the seconds that it took."""
        self.end = monotonic()
        return self.end - (self.start or self.end)

    def begins(self, at: float) -> None:
        """It begins at that time, if it has not begun before."""
        if self.start is None:
            self.start = at

    @property
    def seconds(self) -> float:
        """How long it took: nothing where it has not begun or not ended."""
        return 0.0 if self.start is None or self.end is None else self.end - self.start


class Spent(NamedTuple):
    """Seconds that a request waited for its forward passes and was in them, how many these were, and the rows in the
    largest of their batches."""

    queue_seconds: float = 0.0
    forward_seconds: float = 0.0
    passes: int = 0
    batch_rows: int = 0


NOTHING = Spent()


class Timeline:
    """The stages of one request, the latest 64 of them, and what all of them have come to."""

    __slots__ = ("_earlier", "_pass", "stages", "start")

    def __init__(self) -> None:
        self.start = monotonic()
        self.stages: list[Stage] = []
        self._pass: Stage | None = None
        self._earlier = NOTHING

    def begin(self, name: Name, at: float | None = None) -> Stage:
        """This stage has begun, now or at that time."""
        stage = Stage(name, monotonic() if at is None else at)
        self.add(stage)
        return stage

    def add(self, stage: Stage) -> None:
        """It is one of this request's."""
        if len(self.stages) == MOST:
            self._earlier = _sum(self._earlier, (self.stages.pop(0),))
        self.stages.append(stage)

    def leave_queue(self, queued: Stage, passing: Stage, now: float) -> float:
        """Rows that waited since `queued` go into this pass now; the seconds that they have waited. The time that other
        rows of the same request were in a pass meanwhile does not count as waiting twice."""
        since = now if queued.start is None else queued.start
        if self._pass is not None and self._pass.end is not None and self._pass.end > since:
            queued.start = self._pass.end
        queued.end = now
        self._pass = passing
        self.add(passing)
        return now - since

    def spent(self) -> Spent:
        """What the stages that have ended come to."""
        return _sum(self._earlier, self.stages)


class _Unkept(Timeline):
    """Of what is no request, such as the trial of a bundle."""

    __slots__ = ()

    def add(self, stage: Stage) -> None:
        """Forgotten."""

    def leave_queue(self, queued: Stage, passing: Stage, now: float) -> float:  # noqa: ARG002  # as of any timeline
        """Forgotten."""
        return now - (queued.start or now)


def _sum(earlier: Spent, stages: Iterable[Stage]) -> Spent:
    queue, forward, passes, rows = earlier
    for stage in stages:
        if stage.name == "queue":
            queue += stage.seconds
        elif stage.name == "forward" and stage.end is not None:
            forward += stage.seconds
            passes += 1
            rows = max(rows, stage.rows)
    return Spent(queue, forward, passes, rows)


UNKEPT = _Unkept()
TIMELINE: ContextVar[Timeline] = ContextVar("timeline", default=UNKEPT)
"""That of the request under way."""
