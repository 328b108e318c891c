"""The golden probe: rows whose answers are known, replayed by every runtime on the device that will serve them."""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from bundle.calibration import Floats
from bundle.errors import GoldenInvalid, GoldenMismatch
from bundle.operations import Method

__all__ = ["ATOL", "RTOL", "Expected", "Golden"]

# Float32 with TF32 off agrees across devices and builds to about this.
RTOL = 1e-4
ATOL = 1e-5


@dataclass(frozen=True, eq=False)
class Expected:
    """What one method must return: its arrays, each with as many rows as went in, and the tolerance."""

    outputs: tuple[Floats, ...]
    rtol: float = RTOL
    atol: float = ATOL

    def __post_init__(self) -> None:
        # An infinite tolerance would accept any program.
        if not all(math.isfinite(tolerance) and tolerance >= 0 for tolerance in (self.rtol, self.atol)):
            raise GoldenInvalid("the tolerances in golden.npz must be finite and not negative")


@dataclass(frozen=True, eq=False)
class Golden:
    """Probe rows: `inputs` (n, d) and `latents` (n, k), with the expected outputs of every method."""

    inputs: Floats
    latents: Floats
    expected: Mapping[Method, Expected]

    def __post_init__(self) -> None:
        for rows in (self.inputs, self.latents, *(out for e in self.expected.values() for out in e.outputs)):
            if rows.dtype != np.float32 or not np.isfinite(rows).all():
                raise GoldenInvalid("golden.npz must hold finite float32 arrays")
        if self.inputs.ndim != 2 or self.latents.ndim != 2 or not len(self.inputs) == len(self.latents) > 0:
            raise GoldenInvalid("golden.npz must hold inputs (n, d) and latents (n, k), n at least 1")
        for method, expected in self.expected.items():
            found = tuple(out.shape for out in expected.outputs)
            right = method.output_shapes(len(self.inputs), size=self.inputs.shape[1], latent_size=self.latents.shape[1])
            if found != right:
                raise GoldenInvalid(f"golden.npz must hold arrays of shapes {right} for {method}, not {found}")

    def replay(self, run: Callable[[Method, Floats], tuple[Floats, ...]]) -> float:
        """The largest absolute error over all methods of `run`, which takes a method and its rows.

        Raises GoldenMismatch for the first method whose outputs differ in number, shape, type or value.
        """
        largest = 0.0
        for method, expected in self.expected.items():
            outputs = run(method, self.latents if method.takes_latents else self.inputs)
            if [(out.shape, out.dtype) for out in outputs] != [(out.shape, out.dtype) for out in expected.outputs]:
                raise GoldenMismatch(f"{method} returns arrays of other shapes or types than the golden probe expects")
            for actual, wanted in zip(outputs, expected.outputs, strict=True):
                error = np.abs(actual - wanted)
                if not (error <= expected.atol + expected.rtol * np.abs(wanted)).all():
                    raise GoldenMismatch(
                        f"{method} is off its golden probe by {error.max(initial=0):.3g}, "
                        f"beyond rtol {expected.rtol:g} and atol {expected.atol:g}"
                    )
                largest = max(largest, float(error.max(initial=0)))
        return largest

    def to_bytes(self) -> bytes:
        """The bytes of golden.npz."""
        arrays: dict[str, np.ndarray] = {"inputs": self.inputs, "latents": self.latents}
        for method, expected in self.expected.items():
            arrays[f"{method}.tolerance"] = np.array([expected.rtol, expected.atol])
            for index, output in enumerate(expected.outputs):
                arrays[f"{method}.{index}"] = output
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The probe in the bytes of golden.npz. Raises GoldenInvalid."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in archive.files}
            expected = {}
            for method in Method:
                if f"{method}.tolerance" not in arrays:
                    continue
                rtol, atol = arrays[f"{method}.tolerance"].tolist()
                count = sum(key.startswith(f"{method}.") for key in arrays) - 1
                outputs = tuple(arrays[f"{method}.{index}"] for index in range(count))
                expected[method] = Expected(outputs, rtol, atol)
            return cls(arrays["inputs"], arrays["latents"], expected)
        except GoldenInvalid:
            raise
        except Exception as error:  # of hostile bytes zipfile and numpy say BadZipFile, RuntimeError and many more
            raise GoldenInvalid(f"golden.npz cannot be read: {error}") from error
