"""A version that memory does not suffice to load: refused for the moment, and tried again until it does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.calibration import Floats
from bundle.operations import Method
from bundle.read import Bundle
from service.engine.runtimes import Runtime
from service.errors import VersionRefused
from tests.bundle_factory import publish, run
from tests.service.programs import FakeRuntime, Program
from tests.service.repositories import refusals, repository_of
from tests.service.workers import worker

SHORTAGES = [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")]


class Machine:
    """Memory suffices for nothing while it is full."""

    def __init__(self, shortage: Exception) -> None:
        self.full = True
        self.tries = 0
        self._shortage = shortage

    def fails(self, *_: object) -> None:
        """Raises while it is full."""
        self.tries += 1
        if self.full:
            raise self._shortage

    def opening(self, _: Bundle) -> Runtime:
        """Fails while a program is opened."""
        self.fails()
        return FakeRuntime(run)

    def replaying(self, _: Bundle) -> Runtime:
        """Fails when the probe is replayed."""
        return FakeRuntime(Program(self.fails))

    def warming(self, _: Bundle) -> Runtime:
        """Fails with more rows than the probe has, as it is warmed."""

        def fails(_: Method, rows: Floats) -> None:
            if len(rows) > 16:
                self.fails()

        return FakeRuntime(Program(fails))


@pytest.mark.parametrize("step", [Machine.opening, Machine.replaying, Machine.warming])
@pytest.mark.parametrize("shortage", SHORTAGES, ids=["machine", "device"])
async def test_a_version_that_memory_did_not_suffice_for_is_served_as_soon_as_it_does(
    root: Path, step: Callable[[Machine, Bundle], Runtime], shortage: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine(shortage)
    publish(root)
    async with repository_of(root, lambda bundle: step(machine, bundle)) as repository:
        await repository.refresh()
        assert refusals(repository) == {("tiny", 1): "out-of-memory"}
        assert repository.refused["tiny", 1].detail == "memory does not suffice to load it at the moment"
        assert (repository.unserved, repository.refusals) == (["tiny"], {("tiny", "out-of-memory"): 1})
        assert caplog.text.count("refused tiny/1") == 1, "though it is tried at each look"
        machine.full = False
        await repository.refresh()
        assert (refusals(repository), repository.ready) == ({}, True)


@pytest.mark.parametrize("how", ["load", "pin"])
async def test_who_asks_for_a_version_that_was_refused_has_it_tried_again(root: Path, how: str) -> None:
    machine = Machine(RuntimeError("the driver was being replaced"))
    publish(root)
    async with worker(root, machine.opening) as here:

        async def ask() -> None:
            await (here.administration.load("tiny") if how == "load" else here.administration.pin("tiny", 1))

        await here.look()
        assert (refusals(here.repository), machine.tries) == ({("tiny", 1): "runtime-failed"}, 1)
        with pytest.raises(VersionRefused, match="runtime-failed"):
            await ask()
        machine.full = False
        await ask()
        assert here.answers() == 1
