"""The end of bundles that are no longer found: whoever found them before is still answered, then they are freed."""

import asyncio
import contextlib
import logging
import weakref

from service.engine.batcher import Batcher
from service.engine.loaded import LoadedModel
from service.engine.memory import give_back

__all__ = ["Retirement"]

logger = logging.getLogger("diabolo.repository")


class Retirement:
    """Bundles on their way out."""

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self._leaving: dict[asyncio.Task[None], asyncio.Event] = {}
        self.batchers: weakref.WeakSet[Batcher] = weakref.WeakSet()
        """Of those bundles; held by none of this, for they are to be freed."""

    def add(self, model: LoadedModel) -> None:
        """The bundle, which nobody finds any more, is closed as soon as no request holds it, or after `drain_seconds`.
        The caller must let go of it too."""
        unheld = asyncio.Event()
        loop = asyncio.get_running_loop()
        # Requests that have found the bundle but are still reading a body have submitted nothing yet: only that they
        # hold it shows that they will.
        weakref.finalize(model, _tell, loop, unheld).atexit = False
        self.batchers.add(model.batcher)
        task = loop.create_task(self._close(model.label, model.batcher, unheld))
        self._leaving[task] = unheld
        task.add_done_callback(self._leaving.pop)

    async def close(self) -> None:
        """All are closed, whoever holds them."""
        for unheld in self._leaving.values():
            unheld.set()
        await asyncio.gather(*self._leaving)

    async def _close(self, label: str, batcher: Batcher, unheld: asyncio.Event) -> None:
        logger.info("retiring %s", label)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(unheld.wait(), self._drain_seconds)
        await batcher.close(self._drain_seconds)
        del batcher  # the last that holds it
        await asyncio.to_thread(give_back)
        logger.info("%s has been freed", label)


def _tell(loop: asyncio.AbstractEventLoop, unheld: asyncio.Event) -> None:
    """Called where the last reference goes, which may be another thread, or after the loop has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(unheld.set)
