"""A worker as the supervisor sees it."""

import asyncio
import contextlib
import socket
from collections import deque
from dataclasses import dataclass, field

from service.channel import CONNECTION, MESSAGE_BYTES, Report

__all__ = ["WorkerProcess"]


@dataclass(eq=False)
class WorkerProcess:
    """A process, the supervisor's end of its channel, and what has gone through that.

    A connection that was sent is kept open here until the worker has taken it, so that it outlives the worker.
    """

    process: asyncio.subprocess.Process
    channel: socket.socket
    report: Report | None = None
    heard: float = 0.0
    first_heard: float = 0.0
    sent: int = 0
    proven: bool = False
    asked_to_leave: bool = False
    released: bool = False
    untaken: deque[socket.socket] = field(default_factory=deque)
    untold: deque[bytes] = field(default_factory=deque)

    @property
    def connections(self) -> int:
        """How many it has, or is about to have."""
        return self.sent - (self.report.closed if self.report else 0)

    def offer(self, connection: socket.socket) -> bool:
        """True if the connection is on its way to the worker."""
        if self.released:
            return False
        try:
            socket.send_fds(self.channel, [CONNECTION], [connection.fileno()])
        except OSError:  # its queue is full, or it is dead
            return False
        self.sent += 1
        self.untaken.append(connection)
        return True

    def receive(self, now: float) -> bool:
        """What it has reported is known, and what it has taken is its own. False once the channel has ended."""
        open_still = False
        try:
            while message := self.channel.recv(MESSAGE_BYTES):
                if self.report is None:
                    self.first_heard = now
                self.report, self.heard = Report.unpacked(message), now
                self.proven |= self.report.scanned
        except BlockingIOError:
            open_still = True
        except OSError:  # it died with connections in its queue
            pass
        while self.report and len(self.untaken) > self.sent - self.report.taken:
            self.untaken.popleft().close()
        self._tell_the_rest()
        return open_still

    def tell(self, message: bytes) -> None:
        """It gets the message, unless it is dead: now, or where its queue is full after a later `receive`."""
        self.untold.append(message)
        self._tell_the_rest()

    def _tell_the_rest(self) -> None:
        with contextlib.suppress(OSError):
            while self.untold:
                self.channel.send(self.untold[0])
                self.untold.popleft()

    def release(self) -> None:
        """No more connections come: it is to finish and end."""
        self.released = True
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """It ends now."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
