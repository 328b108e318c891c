"""Copy a version into the folder, then load its name: what is there is found, not what was at the last poll."""

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from bundle.read import Bundle
from service.engine import administration as module
from service.engine.runtimes import Runtime
from service.errors import ModelLoading, UnknownModel
from tests.bundle_factory import publish, run
from tests.service.programs import PATIENCE, FakeRuntime
from tests.service.repositories import refusals, truncate
from tests.service.workers import worker


async def test_a_name_that_was_just_copied_can_be_loaded(three: Path) -> None:
    async with worker(three) as here:
        publish(three, name="other", version=7)
        await here.administration.load("other")
        assert here.answers("other") == 7


@pytest.mark.parametrize("pinned", [False, True])
async def test_a_version_that_was_just_copied_is_the_newest(three: Path, pinned: bool) -> None:
    async with worker(three) as here:
        if pinned:
            await here.administration.pin("tiny", 2)
        publish(three, version=4)
        await here.administration.unpin("tiny")
        assert here.answers() == 4
        publish(three, version=5)
        await here.administration.load("tiny")
        assert here.answers() == 5
        truncate(publish(three, version=6))
        await here.administration.load("tiny")
        assert (here.answers(), refusals(here.repository)) == (5, {("tiny", 6): "size-mismatch"})


async def test_what_was_just_copied_cannot_be_unloaded_before_it_was_seen(three: Path) -> None:
    async with worker(three) as here:
        publish(three, name="other")
        with pytest.raises(UnknownModel):
            await here.administration.unload("other")


async def test_what_is_wanted_of_a_name_whose_folder_is_gone_can_still_be_taken_back(three: Path) -> None:
    async with worker(three) as here:
        await here.administration.unload("tiny")
        shutil.rmtree(three / "tiny")
        await here.look()
        await here.administration.load("tiny")
        assert "tiny" not in here.repository.wanted.models
        with pytest.raises(UnknownModel):
            await here.administration.load("tiny")


async def test_while_another_bundle_is_loaded_a_name_that_is_served_can_be_let_go_and_others_are_told_to_wait(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, opening = threading.Event(), threading.Event()

    def open_runtime(bundle: Bundle) -> Runtime:
        if bundle.manifest.name == "large":
            opening.set()
            assert gate.wait(PATIENCE)
        return FakeRuntime(run)

    monkeypatch.setattr(module, "TRY_SECONDS", 0.01)
    async with worker(three, open_runtime) as here:
        await here.administration.pin("tiny", 2)
        publish(three, name="large")
        publish(three, name="other")
        look = asyncio.create_task(here.look())
        assert await asyncio.to_thread(opening.wait, PATIENCE)
        with pytest.raises(ModelLoading):
            await here.administration.load("other")
        await here.administration.unpin("tiny")
        assert here.answers() == 3
        gate.set()
        await look
