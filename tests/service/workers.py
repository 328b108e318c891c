"""Workers that share a folder of bundles and a state, in this process."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from service.engine.administration import Administration
from service.engine.desired import STATE_FILE
from service.engine.repository import Repository
from service.engine.runtimes import OpenRuntime
from tests.bundle_factory import run
from tests.service.programs import FakeRuntime
from tests.service.repositories import repository_of

__all__ = ["Worker", "worker", "write_state"]


class Worker(NamedTuple):
    """What a worker has of these."""

    repository: Repository
    administration: Administration

    async def look(self) -> None:
        """It has read the state file, looked at the folder, and said so."""
        await self.administration.follow()
        await self.repository.refresh()
        await self.administration.follow()

    def answers(self, name: str = "tiny") -> int:
        """The version that answers where none is named."""
        return self.repository.get(name).manifest.version


@contextlib.asynccontextmanager
async def worker(
    root: Path, open_runtime: OpenRuntime = lambda _: FakeRuntime(run), *, look: bool = True, patience: float = 0
) -> AsyncIterator[Worker]:
    """A worker over this folder, whose state is kept beside it."""
    state = root.parent / "state"
    state.mkdir(exist_ok=True)
    async with repository_of(root, open_runtime, refresh=False) as repository:
        found = Worker(repository, Administration(repository, state, patience_seconds=patience))
        if look:
            await found.look()
        try:
            yield found
        finally:
            found.administration.close()


def write_state(root: Path, text: str) -> None:
    """Somebody has edited the state of the workers over this folder."""
    (root.parent / "state" / STATE_FILE).write_text(text)
