"""Bundles proven off the event loop, in the time that those leave who serve."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bundle.read import Bundle, read_bundle
from service.engine.loaded import Proven, prove
from service.engine.runtimes import OpenRuntime

__all__ = ["Loader"]

# A tenth of what a thread has that serves, where both want a core. No less: while it holds Python's lock, others wait
# for it whatever their priority is.
NICENESS = 10


class Loader:
    """Proves one bundle after the other. Call `close` at the end."""

    def __init__(self, open_runtime: OpenRuntime, *, read: Callable[[Path], Bundle] | None = None) -> None:
        self._open_runtime = open_runtime
        self._read = read or read_bundle
        self._behind = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loading", initializer=_give_way)

    async def prove(self, path: Path, *, other_than: str | None, beside: bool) -> Proven | None:
        """What is in the folder, proven; None where it is the content of that digest, whatever else was changed. Where
        there are others to be served `beside`, their threads come first. Raises what `prove` raises."""
        work = partial(self._prove, path, other_than=other_than)
        return await asyncio.get_running_loop().run_in_executor(self._behind if beside else None, work)

    def close(self) -> None:
        """Nothing is proven any more."""
        self._behind.shutdown(wait=False)

    def _prove(self, path: Path, *, other_than: str | None) -> Proven | None:
        if other_than is None:
            return prove(partial(self._read, path), self._open_runtime)
        bundle = self._read(path)
        return None if bundle.digest == other_than else prove(lambda: bundle, self._open_runtime)


def _give_way() -> None:
    """The calling thread comes after others, where threads have priorities of their own and it may say so."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
