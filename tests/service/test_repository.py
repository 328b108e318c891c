"""The repository: which version answers, what is refused, what retires, and who is told to wait meanwhile."""

import asyncio
import logging
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from bundle.operations import Method
from bundle.read import Bundle
from service.engine.runtimes import Runtime
from service.errors import ModelLoading, UnknownModel, UnknownVersion
from tests.bundle_factory import publish, run
from tests.service.programs import PATIENCE, FakeRuntime, Program, rows_of
from tests.service.repositories import WIDE, publish_wide, refusals, repository_of, run_wide, truncate, until


async def test_the_newest_version_answers_and_older_ones_by_number(root: Path) -> None:
    for version in (9, 10, 2):
        publish(root, version=version)
    async with repository_of(root) as repository:
        assert repository.get("tiny").label == "tiny/10"
        assert repository.get("tiny", "2").label == "tiny/2"
        assert repository.versions("tiny") == [2, 9, 10]
        assert [model.label for model in repository.answering()] == ["tiny/10"]
        with pytest.raises(UnknownVersion, match=r"^tiny has no version '3'; it has 2, 9, 10$"):
            repository.get("tiny", "3")
        with pytest.raises(UnknownVersion):
            repository.get("tiny", "02")
        with pytest.raises(UnknownModel, match=r"^no model is called 'other'; served here: tiny$"):
            repository.get("other")


async def test_a_new_version_is_picked_up_and_becomes_the_default(root: Path) -> None:
    publish(root, version=1)
    async with repository_of(root) as repository:
        before = repository.loaded
        publish(root, version=2)
        await repository.refresh()
        assert repository.get("tiny").label == "tiny/2"
        assert repository.get("tiny", "1") is before["tiny", 1], "what is loaded is not loaded again"
        assert set(before) == {("tiny", 1)}, "a reader's mapping never changes under it"


async def test_a_damaged_version_is_refused_by_name_and_the_old_one_goes_on(root: Path) -> None:
    publish(root, version=1)
    async with repository_of(root) as repository:
        truncate(publish(root, version=2))
        await repository.refresh()
        assert refusals(repository) == {("tiny", 2): "size-mismatch"}
        assert repository.get("tiny").label == "tiny/1"
        assert repository.ready
        publish(root, version=3)
        await repository.refresh()
        assert repository.get("tiny").label == "tiny/3"
        assert refusals(repository) == {("tiny", 2): "size-mismatch"}


async def test_a_program_that_is_off_its_golden_probe_stays_out_and_the_old_one_in(root: Path) -> None:
    def open_runtime(bundle: Bundle) -> Runtime:
        error = np.float32(0.1 * (bundle.manifest.version - 1))
        return FakeRuntime(lambda method, rows: tuple(output + error for output in run(method, rows)))

    publish(root, version=1)
    publish(root, version=2)
    async with repository_of(root, open_runtime) as repository:
        assert refusals(repository) == {("tiny", 2): "golden-mismatch"}
        assert "0.1" in repository.refused["tiny", 2].detail
        assert repository.get("tiny").label == "tiny/1"


@pytest.mark.parametrize("where", ["opening", "running"])
async def test_a_runtime_may_raise_anything_and_only_its_own_bundle_is_refused(
    root: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("secret")

    def open_runtime(bundle: Bundle) -> Runtime:
        if bundle.manifest.name == "bad":
            if where == "opening":
                fails()
            return FakeRuntime(Program(fails))
        return FakeRuntime(run)

    publish(root, name="bad")
    publish(root, name="good")
    async with repository_of(root, open_runtime) as repository:
        assert refusals(repository) == {("bad", 1): "runtime-failed"}
        assert "secret" not in repository.refused["bad", 1].detail
        assert "secret" in caplog.text
        assert repository.get("good").label == "good/1"
        assert repository.unserved == ["bad"]


async def test_whoever_found_a_version_before_it_was_removed_is_answered_and_then_it_is_freed(root: Path) -> None:
    program = Program()
    publish(root, version=1)
    publish(root, version=2)
    async with repository_of(root, lambda _: FakeRuntime(program)) as repository:
        removed, batcher = repository.get("tiny", "2"), repository.get("tiny", "2").batcher
        program.hold()
        accepted = asyncio.create_task(removed.run(Method.ENCODE, rows_of(1)))
        await program.entered()
        shutil.rmtree(root / "tiny" / "2")
        await repository.refresh()
        assert repository.get("tiny").label == "tiny/1"
        with pytest.raises(UnknownVersion):
            repository.get("tiny", "2")
        late = asyncio.create_task(removed.run(Method.ENCODE, rows_of(2)))  # its body took longer to read
        await asyncio.sleep(0)
        program.release()
        np.testing.assert_array_equal((await accepted)[0], rows_of(1)[:, :2])
        np.testing.assert_array_equal((await late)[0], rows_of(2)[:, :2])
        assert batcher.alive
        del removed, accepted, late
        await until(lambda: not batcher.alive)
        shutil.rmtree(root / "tiny")
        await repository.refresh()
        with pytest.raises(UnknownModel, match="no bundle at all"):
            repository.get("tiny")
        assert repository.ready


async def test_an_empty_folder_is_ready_with_nothing(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with repository_of(root) as repository:
        assert (repository.ready, repository.answering(), repository.unserved) == (True, [], [])
        assert "the folder is empty" in caplog.text


async def test_a_name_without_a_version_that_can_answer_makes_the_repository_unready(root: Path) -> None:
    publish(root, name="good")
    truncate(publish(root, name="bad"))
    async with repository_of(root) as repository:
        assert (repository.ready, repository.unserved) == (False, ["bad"])
        with pytest.raises(UnknownModel):
            repository.get("bad")
        publish(root, name="bad", version=2)
        await repository.refresh()
        assert (repository.ready, repository.unserved) == (True, [])
        await repository.get("good").batcher.close(PATIENCE)
        assert (repository.ready, repository.unserved) == (False, ["good"]), "its queue takes no work"


async def test_during_the_first_scan_what_is_not_there_yet_is_loading_and_what_is_there_answers(root: Path) -> None:
    gate, opening = threading.Event(), threading.Event()

    def open_runtime(bundle: Bundle) -> Runtime:
        if bundle.manifest.name == "later":
            opening.set()
            assert gate.wait(PATIENCE)
        return FakeRuntime(run)

    publish(root, name="earlier")
    publish(root, name="later")
    async with repository_of(root, open_runtime, refresh=False) as repository:
        with pytest.raises(ModelLoading) as refusal:
            repository.get("earlier")
        assert refusal.value.retry_after == 1
        scan = asyncio.create_task(repository.refresh())
        assert await asyncio.to_thread(opening.wait, PATIENCE)
        assert (repository.scanned, repository.ready) == (False, False)
        (codes,) = await repository.get("earlier").run(Method.ENCODE, rows_of(1))
        np.testing.assert_array_equal(codes, rows_of(1)[:, :2])
        for name, version in (("later", None), ("unheard-of", None), ("earlier", "2")):
            with pytest.raises(ModelLoading):
                repository.get(name, version)
        gate.set()
        await scan
        assert repository.ready
        assert repository.get("later").label == "later/1"
        with pytest.raises(UnknownModel):
            repository.get("unheard-of")


async def test_two_names_of_different_widths_are_served_side_by_side(root: Path) -> None:
    publish(root, name="narrow")
    publish_wide(root)

    def open_runtime(bundle: Bundle) -> Runtime:
        return FakeRuntime(run_wide if bundle.manifest.name == "wide" else run)

    async with repository_of(root, open_runtime) as repository:
        assert refusals(repository) == {}
        rows = np.arange(WIDE, dtype=np.float32)[None]
        wide, narrow = await asyncio.gather(
            repository.get("wide").run(Method.ENCODE, rows), repository.get("narrow").run(Method.ENCODE, rows_of(1))
        )
        np.testing.assert_array_equal(wide[0], rows[:, :3])
        np.testing.assert_array_equal(narrow[0], rows_of(1)[:, :2])
