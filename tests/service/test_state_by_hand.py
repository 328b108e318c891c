"""The state file in other hands: what is wrong in it never takes away what is served."""

import asyncio
import threading
from pathlib import Path

import pytest

from bundle.read import Bundle
from service.engine import administration as module
from service.engine.acknowledgements import pending
from service.engine.runtimes import Runtime
from service.errors import ModelLoading, PinnedVersionUnavailable, StateDamaged
from tests.bundle_factory import publish, run
from tests.service.programs import PATIENCE, FakeRuntime
from tests.service.repositories import truncate, until
from tests.service.workers import worker, write_state


async def test_a_version_pinned_by_hand_that_cannot_be_served_never_replaces_one_that_is(three: Path) -> None:
    truncate(publish(three, version=4))
    async with worker(three) as here:
        await here.administration.pin("tiny", 2)
        write_state(three, '{"models": {"tiny": {"pinned": 4}}}')
        await here.look()
        assert (here.answers(), here.repository.ready) == (2, True)
        assert here.repository.unmet["tiny"].startswith("version 4 was refused: size-mismatch: ")
    async with worker(three) as restarted:
        with pytest.raises(PinnedVersionUnavailable, match="version 4 was refused"):
            restarted.answers()
        assert restarted.repository.unserved == ["tiny"]


async def test_a_file_damaged_by_hand_changes_nothing_and_is_shown_and_logged_once(
    three: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with worker(three) as here:
        await here.administration.pin("tiny", 2)
        write_state(three, '{"models": {"tiny": {"pinned": "1"}}}')
        await here.look()
        await here.look()
        assert (here.answers(), here.repository.ready, here.administration.revision) == (2, True, 1)
        problem = "desired.json is wrong: models.tiny.pinned: Input should be a valid integer"
        assert here.administration.problem == problem
        assert caplog.text.count(f"{problem}; what it said before stays in force") == 1
        with pytest.raises(StateDamaged, match=r"models.tiny.pinned"):
            await here.administration.unpin("tiny")
        write_state(three, '{"models": {"tiny": {"pinned": 1}}}')
        await here.look()
        assert here.answers() == 1
        assert not here.administration.problem


async def test_until_it_can_be_read_what_is_wanted_nothing_is_loaded(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLLOW_SECONDS", 0.001)
    async with worker(three, look=False) as here:
        write_state(three, "?")
        watch = asyncio.create_task(here.administration.watch(3600))
        await until(lambda: here.administration.problem is not None)
        with pytest.raises(ModelLoading):
            here.answers()
        assert not here.repository.ready
        write_state(three, '{"models": {"tiny": {"pinned": 2}}}')
        await until(lambda: here.repository.ready)
        assert here.answers() == 2
        write_state(three, '{"models": {"tiny": {"unloaded": true}}}')
        await until(lambda: not here.repository.loaded)
        write_state(three, "{}")
        await until(lambda: here.repository.versions("tiny") == [1, 2, 3])  # long before the next poll
        watch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watch


async def test_during_the_first_scan_only_the_pinned_version_answers(three: Path) -> None:
    gate, opening = threading.Event(), threading.Event()

    def open_runtime(bundle: Bundle) -> Runtime:
        if bundle.manifest.version == 2:
            opening.set()
            assert gate.wait(PATIENCE)
        return FakeRuntime(run)

    async with worker(three, look=False) as before:
        write_state(three, '{"models": {"tiny": {"pinned": 2}}}')
    async with worker(three, open_runtime, look=False) as here:
        look = asyncio.create_task(here.look())
        assert await asyncio.to_thread(opening.wait, PATIENCE)
        assert before.repository.loaded == {}
        assert here.repository.get("tiny", "1").label == "tiny/1"
        with pytest.raises(ModelLoading):
            here.answers()
        await here.administration.follow()
        waiting = pending(three.parent / "state", "other", revision=0)
        assert list(waiting.values()) == ["it has not read this yet"], "it cannot know yet what there is"
        gate.set()
        await look
        assert here.answers() == 2
        assert pending(three.parent / "state", "other", revision=0) == {}
