"""Connections, accepted in one place and passed on evenly."""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Sequence
from functools import partial

from service.listening import BACKLOG
from service.worker_process import WorkerProcess

__all__ = ["LOADING_SECONDS", "Balancer"]

ACCEPTS_AT_ONCE = 64
SILENT_SECONDS = 1.0
LOADING_SECONDS = 10.0
logger = logging.getLogger("diabolo.supervisor")


class Balancer:
    """Passes each connection to the worker that has the fewest. While nobody can take one, they wait in the kernel."""

    def __init__(self, listeners: list[socket.socket], workers: Sequence[WorkerProcess]) -> None:
        self._listeners = listeners
        self._workers = workers
        self._waiting: deque[socket.socket] = deque()
        self._accepting = False
        self.only_complete = False
        """True when workers that cannot answer come last, and those that only just load are left alone."""

    def open(self) -> None:
        """Connections are passed on, again if nobody could take them for a while."""
        while self._waiting:
            if not self.hand_over(self._waiting.popleft()):
                return
        if not self._accepting:
            self._accepting = True
            for listener in self._listeners:
                asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def hand_over(self, connection: socket.socket) -> bool:
        """True if the connection is on its way to a worker; else it waits for one, and nobody else is let in."""
        now = asyncio.get_running_loop().time()
        able = [worker for worker in self._workers if worker.report is not None and not self._loads(worker, now)]
        if any(worker.offer(connection) for worker in sorted(able, key=partial(self._rank, now))):
            return True
        self._waiting.append(connection)
        self._pause()
        return False

    def close(self) -> None:
        """Whoever came before this moment is passed on; nobody else is."""
        if self._accepting:
            for listener in self._listeners:
                self._accept(listener, at_most=BACKLOG)
        self._pause()
        for ended in (*self._listeners, *self._waiting):
            ended.close()
        self._listeners = []
        self._waiting.clear()

    def _loads(self, worker: WorkerProcess, now: float) -> bool:
        """True for one that takes another's place and is loading its bundles: it could only say so. Should that take
        long, it may say so."""
        return self.only_complete and not worker.proven and now - worker.first_heard < LOADING_SECONDS

    def _rank(self, now: float, worker: WorkerProcess) -> tuple[int, int, int]:
        """Workers that can answer come first, then who has fewest connections, then who had."""
        assert worker.report is not None
        if worker.report.leaving:
            order = 3
        elif now - worker.heard > SILENT_SECONDS:
            order = 2
        else:
            order = int(self.only_complete and not worker.report.complete)
        return order, worker.connections, worker.sent

    def _accept(self, listener: socket.socket, at_most: int = ACCEPTS_AT_ONCE) -> None:
        """Called when somebody knocks."""
        for worker in self._workers:
            worker.receive(asyncio.get_running_loop().time())  # who has left since makes room
        for _ in range(at_most):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                logger.error("no connection can be accepted: %s", error.strerror)
                self._pause()
                return
            if not self.hand_over(connection):
                return

    def _pause(self) -> None:
        self._accepting = False
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
