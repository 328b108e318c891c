"""Rows that need not fit into memory, and what is the same for those that do."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Features", "Rows", "chunks", "held", "select", "transformed"]

# Up to here rows are held as one float32 tensor.
MEMORY_BYTES = 256 * 2**20
CHUNK_BYTES = 2 * 2**20


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of an array that stays where it is, most often on disk: `len(rows)`, and `rows[indices]` as float32.

    `array` has the shape (N, ...) and any type of number; `index`, int64 (n,), says which rows these are, in order.
    What is asked for is copied, flattened, converted, and handed through `steps`, each row-wise from (m, d) to (m, d').
    """

    array: npt.NDArray[Any]
    index: Tensor
    steps: tuple[Callable[[Tensor], Tensor], ...] = ()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """The rows of these numbers, float32 (m, d)."""
        index = self.index[rows].numpy()
        with np.errstate(over="ignore"):  # too large for float32 is infinite
            taken = self.array[index].astype(np.float32, copy=False)
        x = torch.from_numpy(taken).reshape(len(index), -1)
        for step in self.steps:
            x = step(x)
        return x

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self), self[:1].shape[1]


Features = Tensor | Rows


def held(rows: Rows) -> Features:
    """The same rows, as one tensor (n, d) where that takes no more than 256 MiB."""
    count, size = rows.shape
    return rows[:] if 4 * count * size <= MEMORY_BYTES else rows


def select(features: Features, index: Tensor) -> Features:
    """The rows numbered by `index`, int64 (m,), in that order; on disk where they were on disk."""
    return features[index] if isinstance(features, Tensor) else replace(features, index=features.index[index])


def transformed(features: Features, step: Callable[[Tensor], Tensor]) -> Features:
    """The rows after the row-wise `step`, (m, d) -> (m, d'); at once, or when asked for where they are on disk."""
    return step(features) if isinstance(features, Tensor) else replace(features, steps=(*features.steps, step))


def chunks(features: Features) -> Iterator[Tensor]:
    """All rows in order, some megabytes (m, d) at a time."""
    count = max(1, CHUNK_BYTES // (4 * features.shape[1]))
    for start in range(0, len(features), count):
        yield features[start : start + count]
