"""Whatever stops a writer, and wherever: a reader sees the old state or the new one, never half."""

import errno
import io
import os
import signal
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bundle.errors import BundleError, ManifestTooLarge, MissingFile, UnknownFile, UnsafeFileName, VersionExists
from bundle.manifest import CARD_FILE, GOLDEN_FILE, MANIFEST_FILE, MAX_MANIFEST_BYTES, TORCHSCRIPT_FILE
from bundle.read import read_bundle, scan
from bundle.write import next_version, write_bundle
from tests.bundle_factory import make_files, make_manifest, publish

OLD = make_files(program=b"the old program")
NEW = make_files(program=b"the new program")


class Disk:
    """Every call by which the writer changes the disk is a step with a number. At step `fatal`, `fate` is called
    instead; a file is written in two halves, with a step between them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.fatal = -1
        self.fate: Callable[[], object] = lambda: None
        open_path, mkdir, rename, fsync = Path.open, os.mkdir, os.rename, os.fsync
        disk = self

        class HalvedFile(io.BufferedWriter):
            def write(self, content: Any) -> int:
                half = len(content) // 2
                written = super().write(content[:half])
                self.flush()
                disk.step("half written")
                return written + super().write(content[half:])

        def counted_open(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if "x" not in mode:
                return open_path(path, mode, *args, **kwargs)
            disk.step(f"create {path.name}")
            return HalvedFile(io.FileIO(path, "x"))

        def counted_fsync(descriptor: int) -> None:
            disk.step("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
            fsync(descriptor)

        def counted_mkdir(*args: Any, **kwargs: Any) -> None:
            disk.step("make folder")
            mkdir(*args, **kwargs)

        def counted_rename(*args: Any, **kwargs: Any) -> None:
            disk.step("rename")
            rename(*args, **kwargs)

        monkeypatch.setattr(Path, "open", counted_open)
        monkeypatch.setattr(os, "fsync", counted_fsync)
        monkeypatch.setattr(os, "mkdir", counted_mkdir)
        monkeypatch.setattr(os, "rename", counted_rename)

    def step(self, name: str) -> None:
        """Count one step, or meet the fate."""
        if len(self.steps) == self.fatal:
            self.fate()
        self.steps.append(name)

    def doom(self, step: int, fate: Callable[[], object]) -> None:
        """From now on steps are counted from 0, and `step` is fatal."""
        self.steps, self.fatal, self.fate = [], step, fate


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def steps(disk: Disk, tmp_path: Path) -> list[str]:
    """All the steps of publishing a second version."""
    publish(tmp_path / "rehearsal", files=OLD)
    disk.doom(-1, lambda: None)
    publish(tmp_path / "rehearsal", files=NEW, version=2)
    return disk.steps


def visible(root: Path) -> list[bytes]:
    """The programs of all versions of `tiny` that a reader sees; every one of them is verified."""
    locations = scan(root)
    assert [location.version for location in locations] == list(range(1, len(locations) + 1))
    return [read_bundle(location.path).files[TORCHSCRIPT_FILE] for location in locations]


def leftovers(root: Path) -> list[str]:
    """What stands beside the versions."""
    versions = {str(location.version) for location in scan(root)}
    return sorted(path.name for path in (root / "tiny").iterdir() if path.name not in versions)


def test_everything_is_synced_before_the_rename_and_the_manifest_comes_last(steps: list[str]) -> None:
    written = [(f"create {name}", "half written", "sync file") for name in [*NEW, MANIFEST_FILE]]
    assert steps == [
        *("make folder", "make folder"),
        *(step for file in written for step in file),
        *("sync folder", "rename", "sync folder", "sync folder"),
    ]


# Python 3.12 warns of fork beside threads; the child only writes files and dies.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_writer_killed_at_any_step_leaves_the_old_state_or_the_new(
    disk: Disk, steps: list[str], tmp_path: Path
) -> None:
    for fatal in range(len(steps)):
        root = tmp_path / str(fatal)
        publish(root, files=OLD)
        child = os.fork()
        if child == 0:
            disk.doom(fatal, lambda: os.kill(os.getpid(), signal.SIGKILL))
            try:
                publish(root, files=NEW, version=2)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"the writer survived step {fatal}"
        renamed = "rename" in steps[:fatal]
        assert visible(root) == [OLD[TORCHSCRIPT_FILE]] + renamed * [NEW[TORCHSCRIPT_FILE]], steps[fatal]
        assert all(name.startswith(".") for name in leftovers(root))

        publish(root, files=NEW, version=next_version(root, "tiny"))
        assert visible(root)[1] == NEW[TORCHSCRIPT_FILE]


def disk_full() -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("fate", "error"), [(disk_full, OSError), (interrupted, KeyboardInterrupt)])
def test_a_writer_that_fails_at_any_step_leaves_nothing_half_done(
    disk: Disk, steps: list[str], tmp_path: Path, fate: Callable[[], None], error: type[BaseException]
) -> None:
    for fatal in range(len(steps)):
        root = tmp_path / str(fatal)
        publish(root, files=OLD)
        disk.doom(fatal, fate)
        with pytest.raises(error):
            publish(root, files=NEW, version=2)
        disk.doom(-1, fate)
        renamed = "rename" in steps[:fatal]
        assert visible(root) == [OLD[TORCHSCRIPT_FILE]] + renamed * [NEW[TORCHSCRIPT_FILE]], steps[fatal]
        assert leftovers(root) == []


def test_of_two_writers_of_one_version_exactly_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, both_are_ready = os.rename, threading.Barrier(2, timeout=30)

    def rename_together(*args: Any, **kwargs: Any) -> None:
        both_are_ready.wait()
        rename(*args, **kwargs)

    def write(files: dict[str, bytes]) -> bytes | type[BundleError]:
        try:
            publish(tmp_path, files=files)
        except BundleError as error:
            return type(error)
        return files[TORCHSCRIPT_FILE]

    monkeypatch.setattr(os, "rename", rename_together)
    with ThreadPoolExecutor(2) as writers:
        outcomes = list(writers.map(write, [OLD, NEW]))
    assert VersionExists in outcomes
    assert visible(tmp_path) == [outcome for outcome in outcomes if outcome is not VersionExists]
    assert leftovers(tmp_path) == []


def test_a_published_version_never_changes(tmp_path: Path) -> None:
    publish(tmp_path, files=OLD)
    with pytest.raises(VersionExists, match="tiny/1"):
        publish(tmp_path, files=NEW)
    assert visible(tmp_path) == [OLD[TORCHSCRIPT_FILE]]
    assert leftovers(tmp_path) == []


def test_a_half_copied_folder_is_not_overwritten(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()
    before = sorted(folder.iterdir())
    with pytest.raises(VersionExists):
        publish(folder.parents[1])
    assert sorted(folder.iterdir()) == before


def test_the_returned_folder_holds_what_was_given(tmp_path: Path) -> None:
    folder = publish(tmp_path / "not" / "there" / "yet", name="tiny", version=7)
    assert folder == tmp_path / "not" / "there" / "yet" / "tiny" / "7"
    bundle = read_bundle(folder)
    assert dict(bundle.files) == make_files()
    assert bundle.manifest == make_manifest(bundle.manifest.files, version=7)


@pytest.mark.parametrize(
    ("files", "changes", "error"),
    [
        (NEW | {"extra.py": b""}, {}, UnknownFile),
        (NEW | {MANIFEST_FILE: b"{}"}, {}, UnknownFile),
        (NEW | {"../escaped": b""}, {}, UnsafeFileName),
        ({name: content for name, content in NEW.items() if name != GOLDEN_FILE}, {}, MissingFile),
        (NEW, {"description": "x" * MAX_MANIFEST_BYTES}, ManifestTooLarge),
        (NEW, {"hyper_parameters": {"rate": float("nan")}}, ValueError),
    ],
    ids=["unknown file", "a manifest", "path", "no probe", "huge manifest", "NaN"],
)
def test_what_no_reader_would_accept_is_not_written(
    tmp_path: Path, files: dict[str, bytes], changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        publish(tmp_path, files=files, **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_forgets_a_file_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="very entries"):
        write_bundle(tmp_path, NEW, manifest=lambda files: make_manifest(files | {"preview.png": files[CARD_FILE]}))
    with pytest.raises(ValueError, match="very entries"):
        write_bundle(
            tmp_path, NEW | {"preview.png": b""}, manifest=lambda files: make_manifest({n: files[n] for n in NEW})
        )
    assert list(tmp_path.iterdir()) == []


def test_the_next_version_follows_the_highest(tmp_path: Path) -> None:
    assert next_version(tmp_path / "nowhere", "tiny") == 1
    assert next_version(tmp_path, "tiny") == 1
    publish(tmp_path, version=9)
    publish(tmp_path, version=10)
    publish(tmp_path, name="other", version=30)
    (tmp_path / "tiny" / ".11.aborted").mkdir()
    assert next_version(tmp_path, "tiny") == 11
