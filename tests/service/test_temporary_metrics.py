"""The temporary folder of the workers' metrics: who starts clears up after those who were killed, and nobody else."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.monitoring.temporary import PREFIX, temporary_folder

SUPERVISOR = """
import sys
from service.monitoring.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "worker-1-1.json").write_text("{}")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are, here and in other processes."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@contextlib.contextmanager
def supervisor() -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    """A process that has such a folder, and where that is."""
    command = [sys.executable, "-c", SUPERVISOR]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())


def folders(place: Path) -> set[Path]:
    return set(place.glob(f"{PREFIX}*"))


def test_what_a_killed_one_has_left_is_removed_by_the_next_and_what_a_live_one_has_is_not(place: Path) -> None:
    with supervisor() as (living, of_the_living), supervisor() as (killed, of_the_killed):
        killed.kill()
        killed.wait()
        assert folders(place) == {of_the_living, of_the_killed}
        with temporary_folder() as own:
            assert folders(place) == {of_the_living, own}
            assert (of_the_living / "worker-1-1.json").exists()
        assert folders(place) == {of_the_living}
        living.communicate()
    assert folders(place) == set()


def test_what_nobody_has_claimed_yet_belongs_to_one_who_is_just_starting(place: Path) -> None:
    (place / f"{PREFIX}new").mkdir()
    with temporary_folder() as own:
        assert folders(place) == {place / f"{PREFIX}new", own}


def test_nothing_is_followed_that_only_looks_like_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "owner").touch()
    (place / f"{PREFIX}link").symlink_to(elsewhere)
    (place / f"{PREFIX}trap").mkdir()
    (place / f"{PREFIX}trap" / "owner").symlink_to(elsewhere / "owner")
    with temporary_folder():
        pass
    assert len(folders(place)) == 2
    assert (elsewhere / "owner").exists()
    (place / f"{PREFIX}foreign").mkdir()
    (place / f"{PREFIX}foreign" / "owner").touch()
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with temporary_folder():
        pass
    assert (place / f"{PREFIX}foreign").exists(), "it is somebody else's"
