"""One process at a time in the folder of a run."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import TrainingError

__all__ = ["locked"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """`folder` exists and is this process's alone until the end, however that comes.

    Raises TrainingError where another process has it, OSError when the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise TrainingError(
            "this very run, with the same settings, data and seed, is going on in another process; wait for that"
        ) from None
