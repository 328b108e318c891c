"""A writer that is killed two thousand times: what does a reader see? The old version or the new one, never half."""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.reliability.bundles import shipped
from benchmarks.reliability.row import Check, Outcome, Row
from bundle import write
from bundle.errors import BundleError
from bundle.manifest import CARD_FILE, Manifest
from bundle.read import read_bundle, scan

__all__ = ["ROW", "Writer", "measure", "measure_writer"]

BUNDLE = "fashion-linear"
KILLS_AT_RANDOM = 1000
IN_TURN, AT_RANDOM = "before each instruction of the writer", "at random times"
OLD, NEW, HALF = "old", "new", "half"
UNFINISHED = "unfinished"
FOUND = (OLD, UNFINISHED, NEW, HALF)
KEPT_VERSIONS = 20
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Writer:
    """Publishes versions of one bundle, as training does."""

    manifest: Manifest
    files: dict[str, bytes]

    def files_of(self, version: int) -> dict[str, bytes]:
        """What the version holds: no other has the same card."""
        return {**self.files, CARD_FILE: b"# Version %d\n" % version}

    def write(self, root: Path, version: int) -> None:
        """The version is in `root`."""
        write.write_bundle(root, self.files_of(version), manifest=lambda entries: self.manifest_of(version, entries))

    def manifest_of(self, version: int, entries: Any) -> Manifest:
        """The manifest of the version, which lists these entries."""
        return self.manifest.model_copy(update={"version": version, "files": entries})

    def newest_in(self, root: Path) -> int:
        """The newest version that a reader of `root` finds, whole and as it was written. Raises BundleError or
        ValueError otherwise."""
        newest = max((location.version for location in scan(root)), default=0)
        found = read_bundle(root / self.manifest.name / str(newest))
        if found.files != self.files_of(newest):
            raise ValueError(f"version {newest} holds what was not written as this version")
        return newest


def measure() -> Outcome:
    """Writers of a shipped bundle, killed at every step and at a thousand random times."""
    original = shipped(BUNDLE)
    return measure_writer(Writer(original.manifest, dict(original.files)), at_random=KILLS_AT_RANDOM)


def measure_writer(writer: Writer, *, at_random: int, every: int = 1) -> Outcome:
    """What writers left behind that were killed: before each of the instructions of `bundle/write.py`, or of every so
    many of them only, and so many at a random time, within a system call too."""
    processes = multiprocessing.get_context("forkserver")  # forked from a process without threads, whoever measures
    processes.set_forkserver_preload([__name__])
    found: dict[str, Counter[str]] = {IN_TURN: Counter(), AT_RANDOM: Counter()}
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        writer.write(root, 1)
        with _writing(processes, writer, root, 2, fatal=-1) as (process, connection):
            steps = int(connection.recv())
        usual = 0.0
        with _writing(processes, writer, root, 3) as (process, connection):
            started = time.monotonic()
            process.join()
            usual = time.monotonic() - started
        with _reading(processes, writer, root) as seen:
            for step in range(0, steps, every):
                before = writer.newest_in(root)
                with _writing(processes, writer, root, before + 1, fatal=step) as (process, _):
                    process.join(PATIENCE_SECONDS)
                if process.exitcode != -signal.SIGKILL:
                    raise RuntimeError(f"the writer survived instruction {step} of {steps}")
                found[IN_TURN].update(_found(writer, root, before))
            while _kills(found[AT_RANDOM]) < at_random:
                before = writer.newest_in(root)
                with _writing(processes, writer, root, before + 1) as (process, _):
                    process.join(chance.uniform(0, usual))
                    process.kill()
                states = _found(writer, root, before)
                if process.exitcode == -signal.SIGKILL:  # otherwise it was done sooner than usual
                    found[AT_RANDOM].update(states)
            last = writer.newest_in(root)
            writer.write(root, last + 1)
            published = NEW in _found(writer, root, last)
    return outcome(found, seen, published=published)


def outcome(found: dict[str, Counter[str]], seen: Counter[str], *, published: bool) -> Outcome:
    """The row, from what was found after each kill and what a reader saw all the while."""
    halves = sum(states[HALF] for states in found.values())
    return Outcome(
        setting=f"A process that publishes the next version of {BUNDLE} is ended by SIGKILL, before each of the "
        "writer's bytecode instructions once, then at random times from its start to its usual end. After each the "
        "newest version is read, every byte of it; another process does so all the while",
        checks=(
            Check(what="kills", measured=sum(map(_kills, found.values())), bound=1000, at_most=False),
            Check(what="times that half a version was found after a kill", measured=halves, bound=0),
            Check(what="times that a reader saw half a version meanwhile", measured=seen[HALF], bound=0),
            Check(what="publications after the last kill", measured=int(published), bound=1, at_most=False),
        ),
        table=(
            ("killed", "times", "then the old version", "of these, work left unfinished", "the new one", "half of it"),
            *(
                (where, *(f"{number:,}" for number in (_kills(states), *(states[one] for one in FOUND))))
                for where, states in found.items()
            ),
        ),
        notes=(f"The reader meanwhile read {seen.total():,} times; {seen[NEW]:,} times it found a newer version.",),
    )


def _kills(states: Counter[str]) -> int:
    return states[OLD] + states[NEW] + states[HALF]


def _found(writer: Writer, root: Path, before: int) -> list[str]:
    """What a reader finds where version `before` was followed by a writer that was killed, and whether work that no
    reader sees was left behind. What is half, unfinished or too old to matter is taken away."""
    folder = root / writer.manifest.name
    try:
        state = {before: OLD, before + 1: NEW}.get(writer.newest_in(root), HALF)
    except (BundleError, ValueError):
        state = HALF
        (folder / str(before + 1)).rename(folder / f".{before + 1}.half")
    unfinished = list(folder.glob(".*"))
    if (old := folder / str(before - KEPT_VERSIONS)).exists():
        old.rename(folder / f".{old.name}.old")
    for path in folder.glob(".*"):
        shutil.rmtree(path)
    return [state, UNFINISHED] if unfinished and state == OLD else [state]


@contextmanager
def _writing(
    processes: ForkServerContext, writer: Writer, root: Path, version: int, *, fatal: int | None = None
) -> Iterator[tuple[Any, Connection]]:
    """A process that has just begun to write the version, and dies before the instruction of this number; its
    instructions are counted and sent unless that is None. It has ended at the end."""
    ours, theirs = processes.Pipe(duplex=False)
    process = processes.Process(target=_write, args=(writer, root, version, fatal, theirs))
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield process, ours
    finally:
        process.join(PATIENCE_SECONDS)
        process.kill()
        process.join()
        ours.close()


def _write(writer: Writer, root: Path, version: int, fatal: int | None, connection: Connection) -> None:
    instructions = count()
    files = {write.__file__, sys.modules[type(writer).__module__].__file__} - {__file__}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and next(instructions) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    connection.send("begun")
    if fatal is not None:
        sys.settrace(trace)
    writer.write(root, version)
    sys.settrace(None)
    connection.send(next(instructions))


@contextmanager
def _reading(processes: ForkServerContext, writer: Writer, root: Path) -> Iterator[Counter[str]]:
    """Another process reads all the while; what it saw is in the Counter at the end."""
    ours, theirs = processes.Pipe()
    process = processes.Process(target=_read, args=(writer, root, theirs))
    process.start()
    theirs.close()
    seen: Counter[str] = Counter()
    try:
        yield seen
        ours.send("stop")
        seen.update(ours.recv())
    finally:
        process.kill()
        process.join()
        ours.close()


def _read(writer: Writer, root: Path, connection: Connection) -> None:
    seen: Counter[str] = Counter()
    last = 0
    while not connection.poll():
        try:
            newest = writer.newest_in(root)
        except (BundleError, ValueError):
            seen[HALF] += 1
            continue
        seen[NEW if newest > last else OLD if newest == last else HALF] += 1
        last = newest
    connection.send(seen)


ROW = Row(
    name="killed-writer",
    title="A writer killed at every step",
    goal="1,000 kills; readers see the old version or the new one, never half",
    measure=measure,
)
