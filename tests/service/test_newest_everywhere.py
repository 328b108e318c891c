"""That the newest version answers is acknowledged by who has looked for it: until then workers answer by others."""

import asyncio
import threading
from pathlib import Path

import pytest

from bundle.read import Bundle
from service.engine.acknowledgements import pending
from service.engine.runtimes import Runtime
from tests.bundle_factory import publish, run
from tests.service.programs import PATIENCE, FakeRuntime
from tests.service.repositories import until
from tests.service.workers import Worker, worker, write_state

NOT_LOOKED = ["it has not looked at the folder since"]


def waiting(root: Path, name: str = "tiny", *, revision: int) -> list[str]:
    return list(pending(root.parent / "state", name, revision=revision).values())


async def looking(here: Worker, *, revision: int) -> None:
    """This worker, which was asked for the change, is through with it."""
    await until(lambda: here.repository.wanted.revision == revision)
    await here.look()


@pytest.mark.parametrize("name", ["tiny", "new"])
async def test_to_load_the_newest_is_in_force_when_every_worker_has_found_it(three: Path, name: str) -> None:
    async with worker(three, patience=PATIENCE) as here, worker(three) as other:
        publish(three, name=name, version=4)
        load = asyncio.create_task(here.administration.unpin(name))
        await looking(here, revision=1)
        assert here.answers(name) == 4
        await other.administration.follow()
        assert waiting(three, name, revision=1) == NOT_LOOKED
        await asyncio.sleep(0)
        assert not load.done(), "the other does not answer by version 4"
        await other.look()
        assert (await load).pending == {}
        assert other.answers(name) == 4


async def test_a_look_that_had_begun_before_does_not_count(three: Path) -> None:
    gate, opening = threading.Event(), threading.Event()

    def open_runtime(bundle: Bundle) -> Runtime:
        if bundle.manifest.name == "large":
            opening.set()
            assert gate.wait(PATIENCE)
        return FakeRuntime(run)

    async with worker(three) as here, worker(three, open_runtime) as other:
        publish(three, name="large")
        begun = asyncio.create_task(other.repository.refresh())
        assert await asyncio.to_thread(opening.wait, PATIENCE)
        publish(three, version=4)
        await here.administration.load("tiny")
        await here.look()
        await other.administration.follow()
        gate.set()
        await begun
        await other.administration.follow()
        assert (other.answers(), waiting(three, revision=1)) == (3, NOT_LOOKED)
        await other.look()
        assert (other.answers(), waiting(three, revision=1)) == (4, [])


async def test_who_has_no_memory_for_the_newest_does_not_say_that_it_serves_it(three: Path) -> None:
    def lacking(bundle: Bundle) -> Runtime:
        if bundle.manifest.version == 4:
            raise MemoryError
        return FakeRuntime(run)

    async with worker(three) as here, worker(three, lacking) as other:
        publish(three, version=4)
        await here.administration.load("tiny")
        await here.look()
        await other.look()
        (reason,) = waiting(three, revision=1)
        assert reason.startswith("version 4 was refused: out-of-memory: ")
        assert (here.answers(), other.answers(), other.repository.ready) == (4, 3, True)


async def test_a_roll_back_waits_for_no_look(three: Path) -> None:
    async with worker(three) as here, worker(three) as other:
        await here.administration.pin("tiny", 2)
        await other.administration.follow()
        assert (other.answers(), waiting(three, revision=1)) == (2, [])
        assert waiting(three, "new", revision=1) == NOT_LOOKED, "which may be there by now"


async def test_an_older_file_that_was_put_back_does_not_make_an_old_look_a_new_one(three: Path) -> None:
    async with worker(three) as here:
        for version in (1, 2):
            await here.administration.pin("tiny", version)
        await here.look()
        write_state(three, '{"revision": 1, "models": {}}')
        await here.administration.follow()
        assert waiting(three, revision=1) == NOT_LOOKED
        await here.look()
        assert waiting(three, revision=1) == []
