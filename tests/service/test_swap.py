"""A new version takes the place of an old one: nobody waits, nobody is turned away, nothing of the old one stays."""

import asyncio
import gc
import logging
import shutil
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from bundle.calibration import Floats
from bundle.operations import Method
from bundle.read import Bundle, read_bundle
from service.engine import loader as module
from service.engine.desired import NOTHING, Wish
from service.engine.loaded import LoadedModel
from service.engine.repository import Repository
from service.engine.runtimes import Runtime
from service.errors import Draining, UnknownVersion
from tests.bundle_factory import publish, run
from tests.service.programs import PATIENCE, FakeRuntime, Program, rows_of
from tests.service.repositories import refusals, repository_of, truncate, until

STEPS = ["read and verified", "opened", "replayed and warmed"]


class Gate:
    """Holds up version 2 at one step of its way into the service."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._open, self.reached = threading.Event(), threading.Event()

    def pass_through(self, step: str, version: int) -> None:
        """Waits where this is the step; fails if that is on the event loop."""
        if version == 2 and step == self._step:
            assert threading.current_thread() is not threading.main_thread(), "this holds up requests"
            self.reached.set()
            assert self._open.wait(PATIENCE)

    def open(self) -> None:
        """Nothing is held up any more."""
        self._open.set()


async def codes(repository: Repository) -> None:
    """A request is answered, and rightly."""
    (latents,) = await repository.get("tiny").run(Method.ENCODE, rows_of(1, 2))
    np.testing.assert_array_equal(latents, rows_of(1, 2)[:, :2])


@pytest.mark.parametrize("step", STEPS)
async def test_while_a_new_version_is_made_ready_the_old_one_answers_and_then_the_new_one_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    gate = Gate(step)

    def read(folder: Path) -> Bundle:
        gate.pass_through("read and verified", int(folder.name))
        return read_bundle(folder)

    def open_runtime(bundle: Bundle) -> Runtime:
        version = bundle.manifest.version
        gate.pass_through("opened", version)

        def program(method: Method, rows: Floats) -> tuple[Floats, ...]:
            if threading.current_thread() is not threading.main_thread():
                gate.pass_through("replayed and warmed", version)
            return run(method, rows)

        return FakeRuntime(program)

    monkeypatch.setattr(module, "read_bundle", read)
    publish(root, version=1)
    async with repository_of(root, open_runtime) as repository:
        publish(root, version=2)
        refresh = asyncio.create_task(repository.refresh())
        assert await asyncio.to_thread(gate.reached.wait, PATIENCE)
        assert repository.get("tiny").label == "tiny/1"
        with pytest.raises(UnknownVersion):
            repository.get("tiny", "2")
        await codes(repository)
        assert repository.ready
        gate.open()
        await refresh
        assert repository.get("tiny").label == "tiny/2"
        await codes(repository)


async def test_at_no_moment_of_many_swaps_is_a_request_turned_away(root: Path) -> None:
    publish(root, version=1)
    async with repository_of(root) as repository:
        swapping, answered = True, 0

        async def ask() -> None:
            nonlocal answered
            while swapping:
                await codes(repository)
                answered += 1

        clients = [asyncio.create_task(ask()) for _ in range(4)]
        for version in range(2, 12):
            publish(root, version=version)
            await repository.refresh()
            assert repository.get("tiny").label == f"tiny/{version}"
            shutil.rmtree(root / "tiny" / str(version - 1))
            await repository.refresh()
            await until(partial(lambda before: answered > before, answered))
        swapping = False
        await asyncio.gather(*clients)
        assert repository.versions("tiny") == [11]


def forward_threads() -> int:
    return sum(thread.name.startswith("forward") for thread in threading.enumerate())


def watched(make: Callable[[], FakeRuntime]) -> tuple[Callable[[Bundle], Runtime], list[weakref.ref[Runtime]]]:
    """An opener of runtimes, and those that it has opened as far as they are not freed."""
    opened: list[weakref.ref[Runtime]] = []

    def open_runtime(_: Bundle) -> Runtime:
        runtime = make()
        opened.append(weakref.ref(runtime))
        return runtime

    return open_runtime, opened


@pytest.mark.parametrize("way", ["its folder is removed", "its folder is replaced", "it is unloaded"])
async def test_nothing_of_a_retired_version_stays_neither_memory_nor_thread(root: Path, way: str) -> None:
    open_runtime, runtimes = watched(lambda: FakeRuntime(run))
    publish(root)
    threads = forward_threads()
    async with repository_of(root, open_runtime) as repository:
        await codes(repository)
        assert forward_threads() == threads + 1
        model = weakref.ref(repository.get("tiny"))
        batcher = weakref.ref(repository.get("tiny").batcher)
        match way:
            case "its folder is removed":
                shutil.rmtree(root / "tiny")
                await repository.refresh()
            case "its folder is replaced":
                shutil.rmtree(root / "tiny")
                publish(root, description="another")
                await repository.refresh()
            case _:
                repository.want(NOTHING.with_wish("tiny", Wish(unloaded=True), revision=1))
        gc.disable()  # no cycle may hold it either: nobody promises when those are collected
        try:
            await until(lambda: model() is None and batcher() is None and runtimes[0]() is None)
        finally:
            gc.enable()
        await until(lambda: forward_threads() == threads)


async def test_a_version_that_a_request_holds_is_freed_when_that_ends_though_it_failed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(logging.getLogger("diabolo.batcher"), "disabled", True)  # pytest would keep the traceback
    program = Program()
    open_runtime, runtimes = watched(lambda: FakeRuntime(program))
    publish(root)
    async with repository_of(root, open_runtime) as repository:
        program.fails = fails
        held: list[LoadedModel] = [repository.get("tiny")]
        shutil.rmtree(root / "tiny")
        await repository.refresh()
        with pytest.raises(Exception, match="the forward pass failed"):
            await held[0].run(Method.ENCODE, rows_of(1))
        assert held[0].batcher.alive
        held.clear()
        await until(lambda: gc.collect() >= 0 and runtimes[0]() is None)


async def test_a_version_that_is_held_for_too_long_is_closed_all_the_same(root: Path) -> None:
    publish(root)
    async with repository_of(root, drain_seconds=0) as repository:
        held = repository.get("tiny")
        shutil.rmtree(root / "tiny")
        await repository.refresh()
        await until(lambda: not held.batcher.alive)
        with pytest.raises(Draining):
            await held.run(Method.ENCODE, rows_of(1))


async def test_refusals_are_counted_by_name_and_reason_once_for_each_state_of_a_folder(root: Path) -> None:
    folder = publish(root)
    truncate(folder)
    publish(root, name="other")
    async with repository_of(root) as repository:
        await repository.refresh()
        assert repository.refusals == {("tiny", "size-mismatch"): 1}
        (folder / "strange.txt").write_text("?")
        await repository.refresh()
        truncate(root / "other" / "1")
        await repository.refresh()
        refusals = {("tiny", "size-mismatch"): 1, ("other", "size-mismatch"): 1, ("tiny", "unknown-file"): 1}
        assert repository.refusals == refusals


async def test_a_folder_that_is_copied_bit_by_bit_is_refused_until_it_is_whole(root: Path, tmp_path: Path) -> None:
    source = publish(tmp_path / "elsewhere", version=2)
    publish(root, version=1)
    target = root / "tiny" / "2"
    target.mkdir()
    reasons = []
    async with repository_of(root) as repository:
        for file in sorted(source.iterdir(), key=lambda file: file.name != "manifest.json"):
            assert repository.get("tiny").label == "tiny/1"
            reasons.append(refusals(repository)["tiny", 2])
            content = file.read_bytes()
            (target / file.name).write_bytes(content[: len(content) // 2])
            await repository.refresh()
            assert repository.get("tiny").label == "tiny/1"
            (target / file.name).write_bytes(content)
            await repository.refresh()
        assert (refusals(repository), repository.get("tiny").label) == ({}, "tiny/2")
    assert reasons[0] == "manifest-missing"
    assert set(reasons[1:]) == {"missing-file"}
