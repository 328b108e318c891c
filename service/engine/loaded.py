"""A bundle in memory, proven on its device and ready to answer."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from bundle.calibration import Calibration, Floats
from bundle.golden import Golden
from bundle.manifest import Manifest
from bundle.operations import Method, Operation
from bundle.read import Bundle
from service.engine.batcher import UNBOUNDED, Batcher
from service.engine.deadline import DEADLINE
from service.engine.runtimes import OpenRuntime, Runtime
from service.engine.tally import Tally
from service.errors import InvalidContent, OperationNotSupported

__all__ = ["LoadedModel", "Proven", "prove"]

MEASURED_ROWS = (1, 4, 16, 64, 256)
LONG_SECONDS = 0.02
EXACT_SECONDS = 0.001
MANY_ROWS = 16


@dataclass(frozen=True, eq=False)
class Proven:
    """A bundle whose program reproduced its golden probe on the device that will serve it. `forward_seconds` is how
    long its slowest method takes for so many rows; not measured beyond the first that takes long."""

    bundle: Bundle
    runtime: Runtime
    golden_error: float
    load_seconds: float
    forward_seconds: Mapping[int, float]


def prove(read: Callable[[], Bundle], open_runtime: OpenRuntime) -> Proven:
    """The bundle is read, verified, opened and has replayed its probe; then it is measured, which warms every method.

    Takes long; call it off the event loop. Raises a BundleError.
    """
    started = time.perf_counter()
    bundle = read()
    runtime = open_runtime(bundle)
    error = bundle.golden.replay(runtime.run)
    forward_seconds = _measure(bundle.golden, runtime)
    return Proven(bundle, runtime, error, time.perf_counter() - started, forward_seconds)


def _measure(golden: Golden, runtime: Runtime) -> dict[int, float]:
    """Seconds of the slowest method by the number of rows, the best of three turns: what else the machine does just now
    is no property of the bundle. A bundle that is loaded beside others takes their time, so where fewer rows take long
    already there is one turn, and for many rows only the method that was the slowest with fewer has any."""
    seconds: dict[int, float] = {}
    methods = sorted(golden.expected)
    for count in MEASURED_ROWS:
        turns = 1 if max(seconds.values(), default=0) > EXACT_SECONDS else 3
        taken = {method: _best_of(turns, runtime, method, golden, count=count) for method in methods}
        slowest = max(methods, key=lambda method: taken[method])
        seconds[count] = taken[slowest]
        if taken[slowest] > LONG_SECONDS:
            break
        if count >= MANY_ROWS:
            methods = [slowest]
    return seconds


def _best_of(turns: int, runtime: Runtime, method: Method, golden: Golden, *, count: int) -> float:
    rows = golden.latents if method.takes_latents else golden.inputs
    batch = np.resize(rows, (count, rows.shape[1]))
    seconds = []
    for _ in range(turns):
        started = time.perf_counter()
        runtime.run(method, batch)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


class LoadedModel:
    """A proven bundle behind its batcher. Must be made on the event loop that will use it."""

    def __init__(
        self,
        proven: Proven,
        *,
        max_batch_rows: int,
        max_pending_rows: int,
        max_pending_bytes: int = UNBOUNDED,
        stall_seconds: float = math.inf,
        inline_seconds: float = 0,
        tally: Tally | None = None,
    ) -> None:
        self.manifest: Manifest = proven.bundle.manifest
        self.digest: str = proven.bundle.digest
        self.golden: Golden = proven.bundle.golden
        self.calibration: Calibration | None = proven.bundle.calibration
        self.device = proven.runtime.device
        self.platform = proven.runtime.platform
        self.golden_error = proven.golden_error
        self.load_seconds = proven.load_seconds
        self.tally = tally or Tally()
        self._numbers_per_row = self.manifest.input.size + 2 * self.manifest.latent.size
        statistics = self.manifest.statistics
        self.trained_range = self.manifest.input.range or (min(statistics.minimum), max(statistics.maximum))
        """The least and the greatest value of the training data, or of what its values could be."""
        self.batcher = Batcher(
            partial(_forward, proven.runtime),
            max_batch_rows=max_batch_rows,
            max_pending_rows=max_pending_rows,
            max_pending_bytes=max_pending_bytes,
            stall_seconds=stall_seconds,
            inline_rows=max(
                (n for n, seconds in proven.forward_seconds.items() if seconds < inline_seconds), default=0
            ),
            inline_seconds=inline_seconds,
            forward_seconds=proven.forward_seconds,
            tally=self.tally,
        )

    @property
    def label(self) -> str:
        """`name/version`, for texts."""
        return f"{self.manifest.name}/{self.manifest.version}"

    def numbers(self, rows: int) -> int:
        """About as many as an answer on so many rows holds at most."""
        return rows * self._numbers_per_row

    def require(self, operation: Operation) -> None:
        """Returns when the bundle declares the operation; raises OperationNotSupported otherwise."""
        if operation not in self.manifest.operations:
            declared = ", ".join(declared.path for declared in self.manifest.operations)
            raise OperationNotSupported(
                f"{self.label} is a {self.manifest.family} bundle and cannot {operation.path}; it can {declared}"
            )

    async def run(self, method: Method, rows: Floats, *, checked: bool = True) -> tuple[Floats, ...]:
        """The arrays that `method` returns for rows (n, width), C-contiguous and, if `checked`, all finite. Beside
        reconstructions there is the mean squared error of each row (n,), in squared input units.

        Raises what the batcher does, by the deadline of the request under way; InvalidContent when these rows, not
        their neighbours in the batch, are so large that the arithmetic overflows.
        """
        outputs = await self.batcher.submit(method, rows, deadline=DEADLINE.get())
        if checked:
            self.check_finite(*outputs)
        return outputs

    def check_finite(self, *arrays: Floats) -> None:
        """Returns when all values are finite; raises InvalidContent otherwise."""
        for array in arrays:
            if not (math.isfinite(array.item()) if array.size == 1 else np.isfinite(array).all()):
                raise InvalidContent(f"the result is not finite: the values sent are far beyond {self.label}'s range")


def _forward(runtime: Runtime, method: Method, rows: Floats) -> tuple[Floats, ...]:
    """What the program returns for a batch. What can be done for all rows at once is done here: for each request by
    itself it would take as long as for all of them together."""
    # A program may return part of a larger array, which not every writer of answers can write.
    outputs = tuple(map(np.ascontiguousarray, runtime.run(method, rows)))
    if method is not Method.RECONSTRUCT:
        return outputs
    (reconstructed,) = outputs
    with np.errstate(over="ignore", invalid="ignore"):
        differences = rows - reconstructed
        return reconstructed, np.vecdot(differences, differences) / np.float32(rows.shape[1])
