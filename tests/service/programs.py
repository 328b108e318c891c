"""Programs to put behind a batcher or a runtime: the tiny bundle's arithmetic, watched, held up or failing."""

import asyncio
import threading
from collections.abc import Callable

import numpy as np

from bundle.calibration import Floats
from bundle.operations import Method
from tests.bundle_factory import SIZE, run

__all__ = ["PATIENCE", "FakeRuntime", "Program", "rows_of"]

# Longer than any passing test takes: a thread that nobody releases fails the test instead of blocking the suite.
PATIENCE = 30.0


class Program:
    """`run` of the tiny bundle, which notes its batches and waits at a gate. `fails` may raise instead."""

    def __init__(self, fails: Callable[[Method, Floats], None] | None = None) -> None:
        self.fails = fails
        self.batches: list[int] = []
        self._gate = threading.Event()
        self._gate.set()
        self._entered = threading.Event()

    def __call__(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        """What the tiny bundle answers, once the gate is open."""
        self.batches.append(len(rows))
        self._entered.set()
        assert self._gate.wait(PATIENCE), "the gate was never opened"
        if self.fails is not None:
            self.fails(method, rows)
        with np.errstate(all="ignore"):
            return run(method, rows)

    def hold(self) -> None:
        """From here on every call waits for `release`."""
        self._gate.clear()
        self._entered.clear()

    def release(self) -> None:
        """Calls go on."""
        self._gate.set()

    async def entered(self) -> None:
        """A call has begun since `hold`."""
        assert await asyncio.to_thread(self._entered.wait, PATIENCE), "nothing was run"


class FakeRuntime:
    """A runtime around any function of method and rows."""

    device = "cpu"
    platform = "arithmetic"

    def __init__(self, function: Callable[[Method, Floats], tuple[Floats, ...]]) -> None:
        self._function = function

    def run(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        """What the function answers."""
        return self._function(method, rows)


def rows_of(*values: float) -> Floats:
    """One row of the tiny bundle for each value, which all its elements are multiples of."""
    return np.outer(values, np.arange(1, SIZE + 1)).astype(np.float32).reshape(len(values), SIZE)
