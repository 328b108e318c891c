"""Who still waits when the time to drain is over hears so, whatever has become of the version meanwhile."""

import asyncio
import contextlib
import gc
import shutil
import threading
from pathlib import Path

import pytest

from service.engine.desired import NOTHING, Wish
from service.errors import Draining
from service.server import DrainingServer, server_config
from service.settings import Settings
from tests.bundle_factory import publish
from tests.service.programs import PATIENCE, Program
from tests.service.repositories import repository_of, until
from tests.service.serving import ROWS, Served, assert_problem, serving


async def _leave(served: Served, root: Path, way: str) -> None:
    match way:
        case "its folder is removed":
            shutil.rmtree(root / "tiny" / "2")
            await served.repository.refresh()
        case "its content is replaced":
            shutil.rmtree(root / "tiny" / "2")
            publish(root, version=2, description="another")
            await served.repository.refresh()
        case "it is unloaded":
            served.repository.want(NOTHING.with_wish("tiny", Wish(unloaded=True), revision=1))
        case "its own time to drain has begun":
            batcher = served.repository.get("tiny").batcher
            served.repository.want(NOTHING.with_wish("tiny", Wish(unloaded=True), revision=1))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(batcher.close(PATIENCE), 0.01)


@pytest.mark.parametrize(
    "way",
    [
        "it stays",
        "its folder is removed",
        "its content is replaced",
        "it is unloaded",
        "its own time to drain has begun",
    ],
)
async def test_a_request_in_a_pass_hears_that_the_service_stops(root: Path, way: str) -> None:
    begins, ends, begun = threading.Event(), threading.Event(), threading.Event()

    def hangs(*_: object) -> None:
        """Once; who replays the probe of another version is not held up."""
        if begins.is_set():
            begins.clear()
            begun.set()
            assert ends.wait(PATIENCE)

    publish(root, version=1)
    publish(root, version=2)
    settings = Settings(models_dir=root)
    async with serving(root, Program(hangs)) as served:
        begins.set()
        waiting = asyncio.create_task(served.post("tiny/encode", json={"inputs": ROWS}))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        await _leave(served, root, way)
        DrainingServer(server_config(served.app, settings), served.app, settings)._refuse_what_waits()
        try:
            async with asyncio.timeout(PATIENCE / 2):
                assert_problem(await waiting, Draining)
        finally:
            ends.set()


async def test_batchers_are_those_that_are_served_and_those_that_retire_until_they_are_freed(root: Path) -> None:
    publish(root, version=1)
    folder = publish(root, version=2)
    async with repository_of(root) as repository:
        held = [repository.get("tiny")]
        batchers = {id(model.batcher) for model in repository.loaded.values()}
        shutil.rmtree(folder)
        await repository.refresh()
        assert {id(batcher) for batcher in repository.batchers} == batchers
        held.clear()
        await until(lambda: gc.collect() >= 0 and len(repository.batchers) == 1)
