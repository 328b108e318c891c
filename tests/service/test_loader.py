"""Which thread loads a bundle, and what it leaves to those who serve."""

import os
import sys
import threading
from pathlib import Path

import pytest

from bundle.read import Bundle
from service.engine.loader import NICENESS
from tests.bundle_factory import publish, run
from tests.service.programs import FakeRuntime
from tests.service.repositories import repository_of


def niceness() -> int:
    """Of the calling thread: the higher, the less it gets."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.parametrize("allowed", [True, False], ids=["", "where the machine forbids it"])
async def test_a_bundle_that_is_loaded_beside_others_gives_way_to_them_and_the_first_ones_do_not(
    root: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool
) -> None:
    def forbid(*_: int) -> None:
        raise PermissionError

    if not allowed:
        monkeypatch.setattr(os, "setpriority", forbid)
    found: dict[int, int] = {}

    def open_runtime(bundle: Bundle) -> FakeRuntime:
        found[bundle.manifest.version] = niceness()
        return FakeRuntime(run)

    usual = niceness()
    publish(root)
    async with repository_of(root, open_runtime) as repository:
        publish(root, version=2)
        await repository.refresh()
        assert repository.versions("tiny") == [1, 2]
    beside = min(19, usual + NICENESS) if allowed and sys.platform == "linux" else usual
    assert found == {1: usual, 2: beside}
    assert niceness() == usual
