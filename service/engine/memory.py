"""Memory that is not used any more, given back to the machine."""

import ctypes

__all__ = ["give_back"]


def give_back() -> None:
    """What has been freed belongs to the machine again, where the C library can do that (glibc; it takes milliseconds).

    By itself it keeps what threads have freed. To load a bundle takes several times the memory that the bundle needs
    then, on one thread after the other, so that a process would end up with twice as much as it uses.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
