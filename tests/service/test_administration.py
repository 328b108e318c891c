"""Pins, loads and unloads: in force in every worker that follows the same file, also after a restart."""

import asyncio
import shutil
import threading
from pathlib import Path

import pytest

from bundle.read import Bundle
from service.engine.acknowledgements import pending
from service.engine.administration import Administration
from service.engine.desired import STATE_FILE
from service.engine.runtimes import Runtime
from service.errors import (
    NoStateKept,
    PinnedVersionUnavailable,
    UnknownModel,
    UnknownVersion,
    VersionRefused,
)
from tests.bundle_factory import publish, run
from tests.service.programs import PATIENCE, FakeRuntime
from tests.service.repositories import refusals, repository_of, truncate, until
from tests.service.workers import worker


async def test_a_pin_is_in_force_at_once_here_and_in_others_when_they_follow(three: Path) -> None:
    async with worker(three) as here, worker(three) as other:
        outcome = await here.administration.pin("tiny", 1)
        assert (here.answers(), other.answers()) == (1, 3)
        assert outcome.revision == 1
        assert list(outcome.pending.values()) == ["it has not read this yet"]
        await other.administration.follow()
        assert other.answers() == 1
        assert (await here.administration.pin("tiny", 1)).pending == {}, "the same again: nothing is pending now"
        publish(three, version=4)
        await here.look()
        assert (here.answers(), here.repository.get("tiny", "4").label) == (1, "tiny/4")
        await here.administration.unpin("tiny")
        assert here.answers() == 4


async def test_the_call_returns_as_soon_as_the_last_worker_has_acknowledged(three: Path) -> None:
    async with worker(three, patience=PATIENCE) as here, worker(three) as other:
        call = asyncio.create_task(here.administration.pin("tiny", 2))
        await until(lambda: here.answers() == 2)
        assert not call.done()
        await other.administration.follow()
        assert (await call).pending == {}


async def test_what_is_wanted_survives_a_restart(three: Path) -> None:
    publish(three, name="other")
    async with worker(three) as before:
        await before.administration.pin("tiny", 2)
        await before.administration.unload("other")
    async with worker(three) as after:
        assert after.answers() == 2
        with pytest.raises(UnknownModel, match=r"^other is unloaded; POST /v2/repository/models/other/load"):
            after.answers("other")
        assert after.repository.ready
        assert after.administration.revision == 2


async def test_unloading_frees_all_versions_and_loading_brings_the_pinned_one_back(three: Path) -> None:
    async with worker(three) as here:
        batchers = [model.batcher for model in here.repository.loaded.values()]
        await here.administration.pin("tiny", 2)
        await here.administration.unload("tiny")
        assert here.repository.loaded == {}
        await until(lambda: not any(batcher.alive for batcher in batchers))
        assert [version for _, version in here.repository.unloaded] == [1, 2, 3]
        for version in (None, "2"):
            with pytest.raises(UnknownModel):
                here.repository.get("tiny", version)
        await here.look()
        assert (here.repository.loaded, refusals(here.repository), here.repository.ready) == ({}, {}, True)
        await here.administration.load("tiny")
        assert here.answers() == 2
        await here.look()
        assert here.repository.versions("tiny") == [1, 2, 3]


async def test_a_worker_acknowledges_a_load_only_when_it_has_loaded(three: Path) -> None:
    async with worker(three, patience=PATIENCE) as here, worker(three) as other:

        def waiting_for(revision: int) -> list[str]:
            return list(pending(three.parent / "state", "tiny", revision=revision).values())

        unload = asyncio.create_task(here.administration.unload("tiny"))
        await until(lambda: here.repository.wanted.revision == 1)
        await other.administration.follow()
        assert (await unload).pending == {}, "that needs no look at the folder"
        load = asyncio.create_task(here.administration.load("tiny"))
        await until(lambda: here.repository.wanted.revision == 2)
        await here.look()
        assert waiting_for(2) == ["it has not read this yet"]
        await other.administration.follow()
        assert waiting_for(2) == ["version 3 is being loaded"]
        assert not load.done()
        await other.look()
        assert (await load).pending == {}
        assert (here.answers(), other.answers()) == (3, 3)


async def test_a_pin_to_what_another_worker_has_yet_to_load_leaves_no_gap_there(root: Path) -> None:
    gate, opening = threading.Event(), threading.Event()
    gate.set()

    def open_runtime(bundle: Bundle) -> Runtime:
        if bundle.manifest.version == 2:
            opening.set()
            assert gate.wait(PATIENCE)
        return FakeRuntime(run)

    publish(root)
    async with worker(root) as here, worker(root, open_runtime) as other:
        publish(root, version=2)
        gate.clear()
        outcome = await here.administration.pin("tiny", 2)
        assert here.answers() == 2, "it is found and proven here without waiting for the next poll"
        assert len(outcome.pending) == 1
        await other.administration.follow()
        assert other.answers() == 1
        assert other.repository.unmet == {"tiny": "version 2 is not in the folder"}
        look = asyncio.create_task(other.look())
        assert await asyncio.to_thread(opening.wait, PATIENCE)
        assert other.answers() == 1
        assert other.repository.unmet == {"tiny": "version 2 is being loaded"}
        gate.set()
        await look
        assert other.answers() == 2
        assert (await here.administration.pin("tiny", 2)).pending == {}


@pytest.mark.parametrize("unloaded", [False, True])
async def test_what_cannot_be_served_is_refused_and_nothing_changes(three: Path, unloaded: bool) -> None:
    truncate(publish(three, version=4))
    truncate(publish(three, name="bad"))
    state = three.parent / "state" / STATE_FILE
    async with worker(three) as here:
        await here.administration.pin("tiny", 1)
        if unloaded:
            await here.administration.unload("tiny")
        before = state.read_bytes()
        with pytest.raises(
            VersionRefused, match=r"^tiny cannot be served: version 4: size-mismatch: model.pt is shorter"
        ):
            await here.administration.pin("tiny", 4)
        with pytest.raises(UnknownVersion, match=r"^tiny has no version 9; it has 1, 2, 3, 4$"):
            await here.administration.pin("tiny", 9)
        for change in (here.administration.load("nobody"), here.administration.pin("nobody", 1)):
            with pytest.raises(UnknownModel, match=r"^no model is called 'nobody'"):
                await change
        with pytest.raises(UnknownModel):
            await here.administration.unload("nobody")
        with pytest.raises(VersionRefused, match=r"^bad cannot be served: version 1: size-mismatch"):
            await here.administration.load("bad")
        assert state.read_bytes() == before
        assert here.repository.versions("tiny") == ([] if unloaded else [1, 2, 3])
        if not unloaded:
            assert here.answers() == 1


async def test_a_pinned_version_whose_folder_vanishes_is_not_replaced_by_another(three: Path) -> None:
    async with worker(three) as here:
        await here.administration.pin("tiny", 2)
        (three / "tiny" / "2").rename(three / "away")
        await here.look()
        with pytest.raises(PinnedVersionUnavailable, match=r"^tiny is pinned: version 2 is not in the folder$"):
            here.answers()
        assert here.repository.get("tiny", "3").label == "tiny/3", "named versions answer as before"
        assert (here.repository.ready, here.repository.unserved) == (False, ["tiny"])
        (three / "away").rename(three / "tiny" / "2")
        await here.look()
        assert (here.answers(), here.repository.ready) == (2, True)
        shutil.rmtree(three / "tiny")
        await here.look()
        with pytest.raises(UnknownModel, match=r"^no model is called 'tiny'"):
            here.answers()
        assert here.repository.ready, "a name that is gone altogether is not missed"
        assert here.repository.unmet == {"tiny": "version 2 is not in the folder"}
        await here.administration.unpin("tiny")
        assert here.repository.unmet == {}, "and its pin can still be taken back"


async def test_changes_by_two_workers_at_the_same_time_are_both_kept(three: Path) -> None:
    publish(three, name="other")
    async with worker(three, patience=PATIENCE) as here, worker(three, patience=PATIENCE) as there:
        outcomes = await asyncio.gather(here.administration.pin("tiny", 1), there.administration.unload("other"))
        assert sorted(outcome.revision for outcome in outcomes) == [1, 2]
        for one in (here, there):
            await one.look()
            assert one.answers() == 1
            assert one.repository.unloaded == [("other", 1)]


async def test_without_a_folder_for_it_nothing_can_be_wanted(three: Path) -> None:
    async with repository_of(three) as repository:
        administration = Administration(repository, None, patience_seconds=0)
        for change in (administration.load("tiny"), administration.pin("tiny", 1), administration.unload("tiny")):
            with pytest.raises(NoStateKept, match="DIABOLO_STATE_DIR"):
                await change
        await administration.follow()
        assert (administration.revision, administration.problem, administration.known) == (None, None, True)
        administration.close()
