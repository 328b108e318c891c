"""Rows on their way from a file that must be read from front to back, to an array that can be read in any order."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = ["Spool"]


class Spool:
    """Blocks of rows, written behind each other into a file without a name in `folder`: it takes disk, not memory, and
    nothing is left of it however the run ends. A context, within which it can be written."""

    def __init__(self, folder: Path, *, dtype: type[np.float32 | np.uint8]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it is this object's own, closed in __exit__)
        self._dtype = dtype
        self._count = 0
        self._size = 0

    def append(self, block: npt.NDArray[Any]) -> None:
        """The rows of `block` (m, d) stand behind those before. Raises OSError when the disk refuses."""
        self._file.write(np.ascontiguousarray(block, dtype=self._dtype).data)
        self._count, self._size = self._count + len(block), block.shape[1]

    def array(self) -> npt.NDArray[Any]:
        """All rows (n, d), mapped: the system reads what is looked at and forgets it as it likes."""
        if self._count * self._size == 0:
            return np.empty((self._count, self._size), dtype=self._dtype)
        self._file.flush()
        # A write to a full disk fails here; through a map it would kill the process.
        return np.memmap(self._file, dtype=self._dtype, mode="r", shape=(self._count, self._size))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
