"""Files that are locked while the process lives that made them: whoever finds one that is not knows that it has gone.
The kernel gives the lock back however a process ends, and no other process takes it over."""

import fcntl
import os
from pathlib import Path

__all__ = ["claim", "is_claimed"]


def claim(path: Path, content: bytes = b"") -> int:
    """A new file of this content is at `path`, and this process' for as long as the descriptor, which is returned, is
    open. Raises OSError."""
    # It appears only when it is locked: one that is not is taken for that of a dead process.
    hidden = path.with_name(f".{path.name}")
    descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)
        hidden.rename(path)
    except OSError:
        os.close(descriptor)
        hidden.unlink(missing_ok=True)
        raise
    return descriptor


def is_claimed(descriptor: int) -> bool:
    """True while the process lives that made the file, which this process has opened to read."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
