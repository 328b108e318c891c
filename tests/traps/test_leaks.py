"""What is unloaded must be gone: its thread, and what holds its weights."""

import asyncio
import gc
import shutil
import threading
import weakref
from pathlib import Path

from bundle.operations import Method
from tests.bundle_factory import publish, run
from tests.service.programs import FakeRuntime, rows_of
from tests.service.repositories import repository_of

CYCLES = 100


def forward_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("forward")}


async def test_a_hundred_versions_that_came_and_went_leave_nothing_behind(root: Path) -> None:
    runtimes: list[weakref.ref[FakeRuntime]] = []

    def open_runtime(_: object) -> FakeRuntime:
        runtime = FakeRuntime(run)
        runtimes.append(weakref.ref(runtime))
        return runtime

    before = set(threading.enumerate())  # other tests' threads are theirs
    async with repository_of(root, open_runtime) as repository:
        tasks = asyncio.all_tasks()
        for version in range(1, CYCLES + 1):
            folder = publish(root, version=version)
            await repository.refresh()
            await repository.get("tiny").run(Method.ENCODE, rows_of(*range(8)))
            shutil.rmtree(folder)
            await repository.refresh()
        while asyncio.all_tasks() != tasks:
            await asyncio.sleep(0.001)
        gc.collect()
        assert len(runtimes) == CYCLES
        assert [runtime() for runtime in runtimes] == CYCLES * [None]
        for thread in forward_threads() - before:
            await asyncio.to_thread(thread.join, 30)
        assert not forward_threads() - before
        assert (len(repository.loaded), len(repository.refused)) == (0, 0)
