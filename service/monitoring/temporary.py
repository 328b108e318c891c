"""The folder in which the workers of a service share their metrics, where none is named. It goes with the service; what
one that was killed has left, the next that starts clears up."""

import contextlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from service.claims import claim, is_claimed

__all__ = ["temporary_folder"]

PREFIX = "diabolo-metrics-"
CLAIM = "owner"
logger = logging.getLogger("diabolo.metrics")


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder of this process, until the end; those of processes that were killed are gone. Raises OSError."""
    for found in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if _is_left_behind(found):
                shutil.rmtree(found)
                logger.info("%s, which a service that was killed had left, has been removed", found)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as made:
        folder = Path(made)
        descriptor = claim(folder / CLAIM)
        try:
            yield folder
        finally:
            os.close(descriptor)


def _is_left_behind(folder: Path) -> bool:
    """Raises OSError where nobody has claimed it yet."""
    status = folder.lstat()
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        return False
    descriptor = os.open(folder / CLAIM, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return not is_claimed(descriptor)
    finally:
        os.close(descriptor)
