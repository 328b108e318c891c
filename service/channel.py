"""What the supervisor and a worker say to each other, over a pair of Unix sockets that keeps messages apart.

To the worker: its settings first, then accepted connections, and whether it may be ready or must not be. The end of the
channel says that no more connections will come; the worker sees it as well when the supervisor is killed. Back come
reports.
"""

import socket
import struct
from typing import NamedTuple, Self

__all__ = ["CONNECTION", "DRAIN", "MESSAGE_BYTES", "READY", "Report", "open_channel"]

CONNECTION, READY, DRAIN = b"connection", b"ready", b"drain"
MESSAGE_BYTES = 2**16
FORMAT = struct.Struct("<QQ???")


class Report(NamedTuple):
    """How a worker is. It comes with every change and ten times a second, so that it is the heartbeat of its event loop
    too. Totals rather than changes, so that a report that is lost is made up for by the next."""

    taken: int
    """Connections received so far."""
    closed: int
    """Those among them that have ended."""
    scanned: bool
    """True once it has gone through the folder for the first time, whatever it refused."""
    complete: bool
    """True when it could be ready."""
    leaving: bool
    """True when the worker was told to end by somebody else than the supervisor."""

    def packed(self) -> bytes:
        """As one message."""
        return FORMAT.pack(*self)

    @classmethod
    def unpacked(cls, message: bytes) -> Self:
        """From one message."""
        return cls(*FORMAT.unpack(message))


def open_channel() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end, which does not block, and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs
