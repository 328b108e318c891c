"""The folder in which the processes of one service find each other's numbers.

Each worker writes its own file; when it has ended, the supervisor adds what stays of it to the file of the past. All
files are replaced atomically, so whoever reads finds whole ones.
"""

import os
import time
from pathlib import Path

import orjson

from service.monitoring.snapshot import Snapshot

__all__ = ["Share", "clear", "ended"]

PAST = "past.json"
PATTERN = "worker-*.json"
REMEMBERED = 64


class Share:
    """A process' own file among those of the others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # A process id may come again.
        self._file = folder / f"worker-{os.getpid()}-{time.monotonic_ns()}.json"
        self._written = b""

    def publish(self, snapshot: Snapshot) -> None:
        """The others find these numbers. Raises OSError."""
        content = snapshot.to_bytes()
        if content != self._written:
            _replace(self._file, content)
            self._written = content

    def all(self) -> Snapshot:
        """The numbers of all processes, those that have ended included. Raises OSError."""
        files = [(path.name, content) for path in self._folder.glob(PATTERN) if (content := _content(path))]
        # Read last: what has ended meanwhile is in it, and may be among the files as well.
        past, names = _past(self._folder)
        return past.include(Snapshot.from_bytes(content) for name, content in files if name not in names)


def clear(folder: Path) -> None:
    """The folder is there, and empty of what earlier services have left. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / PAST, *folder.glob(PATTERN)):
        path.unlink(missing_ok=True)


def ended(folder: Path, pid: int, *, asked: bool = False) -> None:
    """The process has ended, which itself is counted unless it was asked to: what it has counted stays, how it was does
    not. Raises OSError."""
    past, names = _past(folder)
    past.add("workers_ended", (), int(not asked))
    paths = list(folder.glob(f"worker-{pid}-*.json"))
    for path in paths:
        if path.name not in names and (content := _content(path)):
            past.include([Snapshot.from_bytes(content).past()])
            names = [*names[1 - REMEMBERED :], path.name]
    _replace(folder / PAST, orjson.dumps([names, past.to_bytes().decode()]))
    for path in paths:
        path.unlink()


def _past(folder: Path) -> tuple[Snapshot, list[str]]:
    """What has ended, and the names of the files that have become part of it of late."""
    content = _content(folder / PAST)
    if not content:
        return Snapshot(), []
    names, past = orjson.loads(content)
    return Snapshot.from_bytes(past), names


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f".{path.name}")  # each file has one process that writes it
    new.write_bytes(content)
    new.replace(path)
