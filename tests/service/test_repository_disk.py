"""The repository and a disk that changes, fails or loses folders while it is looked at."""

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import service.engine.folder as folder_module
import service.engine.loader as module
from bundle.read import Bundle, Location, read_bundle, scan
from service.engine.repository import Repository
from service.engine.runtimes import Runtime
from tests.bundle_factory import publish, run
from tests.service.programs import PATIENCE, FakeRuntime
from tests.service.repositories import refusals, repository_of, truncate

Reads = list[Path]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """The folders that were opened, in order."""
    opened: Reads = []

    def counted(folder: Path) -> Bundle:
        opened.append(folder)
        return read_bundle(folder)

    monkeypatch.setattr(module, "read_bundle", counted)
    return opened


def until_ctime_changes(path: Path, change: Callable[[], object]) -> None:
    """The change is made, and again until the kernel's clock, which ticks in milliseconds, has moved on."""
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:
        change()


async def test_a_refused_folder_is_opened_again_only_when_it_has_changed(root: Path, reads: Reads) -> None:
    folder = publish(root)
    truncate(folder)
    async with repository_of(root) as repository:
        await repository.refresh()
        await repository.refresh()
        assert reads == [folder]
        (folder / "strange.txt").write_text("?")
        await repository.refresh()
        assert reads == [folder] * 2
        assert refusals(repository) == {("tiny", 1): "unknown-file"}


async def test_a_loaded_folder_is_not_opened_again_while_it_stays_as_it_is(root: Path, reads: Reads) -> None:
    folder = publish(root)
    async with repository_of(root) as repository:
        await repository.refresh()
        assert reads == [folder]


async def test_a_folder_that_is_damaged_after_it_was_loaded_is_refused_and_what_was_loaded_goes_on(
    root: Path, reads: Reads, caplog: pytest.LogCaptureFixture
) -> None:
    folder = publish(root)
    program = (folder / "model.pt").read_bytes()
    async with repository_of(root) as repository:
        loaded = repository.get("tiny")
        truncate(folder)
        await repository.refresh()
        await repository.refresh()
        assert refusals(repository) == {("tiny", 1): "size-mismatch"}
        assert "refused tiny/1: size-mismatch" in caplog.text
        assert "what was loaded before is still served" in caplog.text
        assert repository.get("tiny") is loaded
        assert loaded.batcher.alive
        assert repository.ready
        assert reads == [folder] * 2, "once for each state of the folder"
        (folder / "model.pt").write_bytes(program)
        await repository.refresh()
        assert refusals(repository) == {}
        assert repository.get("tiny") is loaded, "the same content is not loaded twice"


async def test_a_folder_that_is_touched_or_copied_over_itself_is_the_same_version(root: Path, reads: Reads) -> None:
    folder = publish(root)
    async with repository_of(root) as repository:
        loaded = repository.get("tiny")
        until_ctime_changes(folder / "model.pt", lambda: os.utime(folder / "model.pt"))
        await repository.refresh()
        await repository.refresh()
        assert repository.get("tiny") is loaded
        assert refusals(repository) == {}
        assert reads == [folder] * 2


async def test_a_damaged_folder_that_is_exchanged_for_the_one_that_was_loaded_is_refused_no_more(
    root: Path, reads: Reads
) -> None:
    folder = publish(root)
    async with repository_of(root) as repository:
        folder.rename(root / ".away")
        shutil.copytree(root / ".away", folder)
        truncate(folder)
        await repository.refresh()
        assert refusals(repository) == {("tiny", 1): "size-mismatch"}
        shutil.rmtree(folder)
        (root / ".away").rename(folder)
        await repository.refresh()
        assert refusals(repository) == {}
        assert reads == [folder] * 2, "it is known as it is"


async def test_a_version_that_is_published_anew_with_other_content_takes_its_own_place_without_a_gap(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = publish(root)
    opening, gate = threading.Event(), threading.Event()
    gate.set()

    def open_runtime(_: Bundle) -> Runtime:
        opening.set()
        assert gate.wait(PATIENCE)
        return FakeRuntime(run)

    async with repository_of(root, open_runtime) as repository:
        before = repository.get("tiny").digest
        shutil.rmtree(folder)
        publish(root, description="another")
        opening.clear()
        gate.clear()
        refresh = asyncio.create_task(repository.refresh())
        assert await asyncio.to_thread(opening.wait, PATIENCE)
        assert repository.get("tiny").digest == before, "while the new content is proven, the old one answers"
        gate.set()
        await refresh
        assert repository.get("tiny").digest != before
        assert repository.get("tiny").batcher.alive
        assert "tiny/1 was replaced on disk by other content" in caplog.text


async def test_a_repair_that_keeps_size_and_time_is_noticed(root: Path) -> None:
    path = publish(root) / "model.pt"
    good, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)

    def put(content: bytes) -> None:
        path.write_bytes(content)
        os.utime(path, ns=times)

    put(good[::-1])
    async with repository_of(root) as repository:
        assert refusals(repository) == {("tiny", 1): "hash-mismatch"}
        until_ctime_changes(path, lambda: put(good))
        await repository.refresh()
        assert refusals(repository) == {}
        assert repository.get("tiny").label == "tiny/1"


async def test_a_repair_of_permissions_is_noticed(root: Path, reads: Reads) -> None:
    folder = publish(root)
    truncate(folder)
    async with repository_of(root) as repository:
        until_ctime_changes(folder / "model.pt", lambda: (folder / "model.pt").chmod(0o640))
        await repository.refresh()
        assert len(reads) == 2


async def test_what_the_disk_could_not_read_is_tried_again_and_logged_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [OSError(errno.EMFILE, "Too many open files", "/secret/path") for _ in range(2)]

    def unreliable(folder: Path) -> Bundle:
        if failures:
            raise failures.pop()
        return read_bundle(folder)

    publish(root)
    monkeypatch.setattr(module, "read_bundle", unreliable)
    async with repository_of(root) as repository:
        assert refusals(repository) == {("tiny", 1): "unreadable"}
        assert repository.refused["tiny", 1].detail == "Too many open files"
        await repository.refresh()
        assert caplog.text.count("refused tiny/1") == 1
        await repository.refresh()
        assert refusals(repository) == {}
        assert repository.ready


@pytest.mark.parametrize("vanishes", ["before it is opened", "between its manifest and its files"])
async def test_a_folder_that_vanishes_during_a_scan_is_no_refusal(
    root: Path, monkeypatch: pytest.MonkeyPatch, vanishes: str
) -> None:
    publish(root, name="stays")
    gone = publish(root, name="goes")

    def scan_and_lose(folder: Path) -> list[Location]:
        locations = scan(folder)
        if vanishes == "before it is opened":
            shutil.rmtree(gone.parent, ignore_errors=True)
        return locations

    def read_and_lose(folder: Path) -> Bundle:
        if folder == gone:
            (folder / "model.pt").unlink(missing_ok=True)
        return read_bundle(folder)

    monkeypatch.setattr(folder_module, "scan", scan_and_lose)
    monkeypatch.setattr(module, "read_bundle", read_and_lose)
    async with repository_of(root) as repository:
        assert refusals(repository) == {}
        assert repository.get("stays").label == "stays/1"
        shutil.rmtree(gone.parent, ignore_errors=True)
        await repository.refresh()
        assert refusals(repository) == {}
        assert repository.ready


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Errors that the next scans raise, first to last, before scans succeed again."""
    failures: list[Exception] = []

    def unreliable(root: Path) -> list[Location]:
        if failures:
            raise failures.pop(0)
        return scan(root)

    monkeypatch.setattr(folder_module, "scan", unreliable)
    return failures


async def watched(repository: Repository, condition: Callable[[], bool]) -> None:
    """The repository is watched until the condition holds."""
    watch = asyncio.create_task(repository.watch(0.001))
    async with asyncio.timeout(PATIENCE):
        while not condition():
            assert not watch.done()
            await asyncio.sleep(0.001)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (OSError(errno.EACCES, "Permission denied", "/secret/path"), "cannot be listed: Permission denied"),
        (RuntimeError("a fault of our own"), "looking through the folder of bundles failed"),
    ],
    ids=["the folder cannot be listed", "a fault"],
)
async def test_a_failed_look_is_logged_and_the_watch_goes_on(
    root: Path, scans: list[Exception], caplog: pytest.LogCaptureFixture, error: Exception, logged: str
) -> None:
    publish(root)
    async with repository_of(root, refresh=False) as repository:
        scans += [error, error]
        await watched(repository, lambda: repository.scanned)
        assert repository.get("tiny").label == "tiny/1"
        assert caplog.text.count(logged) == 2


async def test_a_folder_that_cannot_be_listed_retires_nothing(root: Path, scans: list[Exception]) -> None:
    publish(root)
    async with repository_of(root) as repository:
        scans += [OSError(errno.EIO, "Input/output error")]
        await watched(repository, lambda: not scans)
        assert repository.get("tiny").batcher.alive


async def test_the_folder_of_bundles_may_appear_later(tmp_path: Path) -> None:
    root = tmp_path / "models"
    async with repository_of(root, refresh=False) as repository:
        with pytest.raises(FileNotFoundError):
            await repository.refresh()
        assert not repository.ready
        publish(root)
        await watched(repository, lambda: repository.scanned)
        assert repository.get("tiny").label == "tiny/1"


async def test_closing_drains_every_bundle(root: Path) -> None:
    publish(root, name="one")
    publish(root, name="two")
    async with repository_of(root, lambda _: FakeRuntime(run)) as repository:
        models = repository.answering()
        await repository.close()
        assert repository.answering() == []
        assert not any(model.batcher.alive for model in models)


async def test_a_version_that_changes_while_it_is_read_is_not_judged_before_the_next_look(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    going, damaged = publish(root, version=1), publish(root, version=2)

    def opened(bundle: Bundle) -> Runtime:
        if bundle.manifest.version == 1:
            shutil.rmtree(going)
        else:
            (damaged / "strange.txt").write_text("?")
        raise RuntimeError("it is not as it was")

    async with repository_of(root, opened) as repository:
        assert (refusals(repository), caplog.records) == ({}, [])
        await repository.refresh()
        assert refusals(repository) == {("tiny", 2): "unknown-file"}
