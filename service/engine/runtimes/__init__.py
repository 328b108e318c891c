"""What runs an artefact: an opened program on a device, hidden behind one small protocol."""

from collections.abc import Callable
from typing import Protocol

from bundle.calibration import Floats
from bundle.operations import Method
from bundle.read import Bundle

__all__ = ["OpenRuntime", "Runtime"]


class Runtime(Protocol):
    """An opened artefact. Used by one thread at a time."""

    @property
    def device(self) -> str:
        """Where it runs, for example `cpu` or `cuda:0`."""
        ...

    @property
    def platform(self) -> str:
        """What runs and what is run, as the Open Inference Protocol names it."""
        ...

    def run(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        """The arrays that `method` returns for rows of shape (n, width): float32, n rows each. Raises MemoryError where
        memory does not suffice for so many."""
        ...


OpenRuntime = Callable[[Bundle], Runtime]
