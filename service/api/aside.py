"""What is too large for the event loop, on threads of its own: bodies to be read, and answers to be written."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

__all__ = ["Aside"]

R = TypeVar("R")
NEWEST = 0.2  # the share of the newest body in what is expected of the next


class Aside:
    """A thread that reads, a thread that writes, and a queue in front of each. Answers do not wait for bodies, which
    came later: an answer ends what has been worked on already, and a body begins more work.

    Both hold Python's lock nearly all the time, so that more threads would do no more, and the event loop would wait
    for each of them.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._clock = clock
        self._seconds_per_byte = 0.0
        self.unread_bytes = 0
        """Of the bodies that have come and are not read yet."""

    def expected_seconds(self) -> float:
        """Until the bodies that have come are read, by how long that took of late."""
        return self.unread_bytes * self._seconds_per_byte

    async def read(self, work: Callable[[], R], size: int) -> R:
        """What `work` returns, which reads a body of so many bytes. Raises what it raises."""

        def timed() -> R:
            start = self._clock()
            try:
                return work()
            finally:
                newest = (self._clock() - start) / size
                self._seconds_per_byte += NEWEST * (newest - self._seconds_per_byte)

        self.unread_bytes += size
        try:
            return await _on(self._reader, timed)
        finally:
            self.unread_bytes -= size

    async def write(self, work: Callable[[], R]) -> R:
        """What `work` returns, which writes an answer. Raises what it raises."""
        return await _on(self._writer, work)


async def _on(thread: ThreadPoolExecutor, work: Callable[[], R]) -> R:
    return await asyncio.get_running_loop().run_in_executor(thread, copy_context().run, work)
