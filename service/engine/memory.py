"""Memory that is not used any more, given back to the machine."""

import ctypes
import os

__all__ = ["give_back", "share_one_arena"]

M_ARENA_MAX = -8  # as <malloc.h> has it
CHOSEN = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")


def share_one_arena() -> None:
    """Threads that begin from here on allocate where the first thread does, where the C library is glibc and the
    environment does not choose otherwise.

    By itself each thread gets an arena of its own, up to eight for each core, whose upper end is never given back: a
    hundred loads, each on one thread or another, leave megabytes behind. One arena has a lock, which threads that share
    Python's own lock do not wait for.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and not any(name in os.environ for name in CHOSEN):
        mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """What has been freed belongs to the machine again, where the C library can do that (glibc; it takes milliseconds).

    By itself it keeps what threads have freed. To load a bundle takes several times the memory that the bundle needs
    then, on one thread after the other, so that a process would end up with twice as much as it uses.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
