"""Worker processes: started, given connections evenly, replaced when they die or hang, and ended in order.

The supervisor alone holds the listening sockets. It accepts, passes each connection to the worker that has the fewest,
and keeps it until the worker has taken it; so a worker that dies loses nothing but what it was answering.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from service.announcement import announce
from service.channel import DRAIN, READY, open_channel
from service.settings import Settings
from service.worker_process import WorkerProcess

__all__ = ["Supervisor", "next_pause", "supervise", "worker_count"]

STARTUP_FAILURE = 3  # uvicorn's, so that one worker and several end alike
BACKLOG = 2048
ACCEPTS_AT_ONCE = 64
MOST_WORKERS = 4
GPU_NODES = ("/dev/nvidia0", "/dev/kfd")  # a wrong guess costs speed, and DIABOLO_WORKERS wins
SILENT_SECONDS = 1.0
LATE_SECONDS = 5
TOGETHER_SECONDS = 10.0
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
WORKER = (sys.executable, "-P", "-m", "service.worker")
logger = logging.getLogger("diabolo.supervisor")


def supervise(settings: Settings, workers: int, *, command: Sequence[str] = WORKER) -> NoReturn:
    """Serves by so many workers until SIGTERM or SIGINT: then all are not ready, `drain_delay` seconds later no
    connection is accepted, what was accepted is answered within `drain_seconds`, and the process exits with 0. Exits
    with 3 when it cannot start."""
    try:
        listeners = listen(settings.host, settings.port)
    except OSError as error:
        logger.error("cannot listen on %s port %d: %s", settings.host, settings.port, (error.strerror or "").lower())
        raise SystemExit(STARTUP_FAILURE) from None
    raise SystemExit(asyncio.run(Supervisor(settings, listeners, workers=workers, command=command).run()))


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of `host` and do not block. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners = [
        socket.create_server(address[:2], family=family, backlog=BACKLOG)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found)
    ]
    for listener in listeners:
        listener.setblocking(False)
    return listeners


def worker_count(settings: Settings) -> int:
    """How many workers the settings mean: one for a GPU, which one process keeps busy and whose memory each would take;
    else one for each core that this process may use, of which each runs its forward passes on its own."""
    if settings.workers:
        return settings.workers
    gpu = settings.device != "cpu" and (settings.device != "auto" or any(Path(node).exists() for node in GPU_NODES))
    return 1 if gpu or sys.platform != "linux" else min(cores(), MOST_WORKERS)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def next_pause(last: float, *, proven: bool) -> float:
    """Seconds to wait before a worker is replaced that `last` seconds were waited for: none if it had proven that it
    can start, else twice as many."""
    return 0.0 if proven else min(max(2 * last, PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


class Supervisor:
    """Workers, and the sockets whose connections they get."""

    def __init__(
        self, settings: Settings, listeners: list[socket.socket], *, workers: int, command: Sequence[str]
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._port = listeners[0].getsockname()[1]
        self._count = workers
        self._command = command
        self._workers: list[WorkerProcess] = []
        self._waiting: deque[socket.socket] = deque()
        self._accepting = False
        self._heard = self._announced = self._settled = False
        self._first_complete: float | None = None
        self._stopping, self._forced = asyncio.Event(), asyncio.Event()
        self._code = 0

    async def run(self) -> int:
        """Everything has been served and every worker has ended; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        places = [asyncio.create_task(self._occupy()) for _ in range(self._count)]
        watchdog = asyncio.create_task(self._watch())
        await self._stopping.wait()
        for worker in self._workers:
            worker.tell(DRAIN)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._forced.wait(), 0 if self._code else self._settings.drain_delay)
        watchdog.cancel()
        self._close()
        _, late = await asyncio.wait(places, timeout=2 * self._settings.drain_seconds + LATE_SECONDS)
        if late:
            logger.error("%d workers did not end in time and are killed", len(late))
            self._kill()
            await asyncio.wait(places)
        return self._code

    def _signalled(self, number: signal.Signals) -> None:
        if self._stopping.is_set() and number == signal.SIGINT:
            self._forced.set()
            self._kill()
        self._stopping.set()

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    def _close(self) -> None:
        """Whoever came before this moment is passed on; nobody else is."""
        if self._accepting:
            for listener in self._listeners:
                self._accept(listener, at_most=BACKLOG)
        self._pause()
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        for worker in self._workers:
            worker.release()
        for connection in self._waiting:
            connection.close()
        self._waiting.clear()

    async def _occupy(self) -> None:
        """One worker after the other, until the service stops."""
        pause = 0.0
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            worker = await self._start()
            code = await worker.process.wait()
            self._bury(worker)
            if self._stopping.is_set():
                break
            if not self._heard:
                logger.error("a worker could not start (exit code %d), and none has before", code)
                self._code = STARTUP_FAILURE
                self._stopping.set()
                break
            lived = asyncio.get_running_loop().time() - started
            pause = next_pause(pause, proven=worker.proven or lived > LONGEST_PAUSE_SECONDS)
            logger.error(
                "worker %d ended after %.0f s with %s; it is replaced%s",
                worker.process.pid,
                lived,
                f"exit code {code}" if code >= 0 else signal.Signals(-code).name,
                f" in {pause:g} s" if pause else "",
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _start(self) -> WorkerProcess:
        ours, theirs = open_channel()
        ours.send(self._settings.model_dump_json().encode())
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env=self._environment(),
                process_group=0,  # Ctrl-C in a terminal is for the supervisor
            )
        worker = WorkerProcess(process, ours)
        self._workers.append(worker)
        asyncio.get_running_loop().add_reader(ours, self._hear, worker)
        if self._settled:
            worker.tell(READY)
        if self._stopping.is_set():
            worker.release()
        return worker

    def _environment(self) -> dict[str, str]:
        """This process' own; the cores are divided, unless somebody has said how many threads there are to be."""
        threads = str(max(1, cores() // self._count))
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        return {"OMP_NUM_THREADS": threads} | os.environ | {"PYTHONPATH": path}

    def _bury(self, worker: WorkerProcess) -> None:
        """What the worker had not taken goes to the others."""
        asyncio.get_running_loop().remove_reader(worker.channel)
        worker.receive(0)
        worker.channel.close()
        self._workers.remove(worker)
        self._start_is_over()
        while worker.untaken:
            self._pass(worker.untaken.popleft())

    def _hear(self, worker: WorkerProcess) -> None:
        """Called when a worker has reported, or ended."""
        loop = asyncio.get_running_loop()
        if not worker.receive(loop.time()):
            loop.remove_reader(worker.channel)
        if worker.report is None:
            return
        self._heard = True
        if worker.report.leaving and not worker.asked_to_leave:
            worker.asked_to_leave = True
            loop.call_later(self._settings.drain_delay, worker.release)
        self._settle(loop.time())
        if self._settled or sum(other.report is not None for other in self._workers) == self._count:
            self._resume()

    def _settle(self, now: float) -> None:
        """All workers become ready together, so that none begins with all connections; but they wait only so long."""
        complete = sum(worker.report is not None and worker.report.complete for worker in self._workers)
        if complete and self._first_complete is None:
            self._first_complete = now
        if complete == self._count or (complete and now > (self._first_complete or now) + TOGETHER_SECONDS):
            self._start_is_over()

    def _start_is_over(self) -> None:
        if not self._settled:
            self._settled = True
            for worker in self._workers:
                worker.tell(READY)

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
            if not self._pass(connection):
                return

    def _pass(self, connection: socket.socket) -> bool:
        """The connection is on its way to a worker, or waits for one; then nobody else is let in."""
        now = asyncio.get_running_loop().time()
        started = [worker for worker in self._workers if worker.report is not None]
        if any(worker.offer(connection) for worker in sorted(started, key=partial(self._rank, now))):
            return True
        self._waiting.append(connection)
        self._pause()
        return False

    def _rank(self, now: float, worker: WorkerProcess) -> tuple[int, int, int]:
        """Workers that can answer come first, then who has fewest connections."""
        assert worker.report is not None
        if worker.report.leaving:
            order = 3
        elif now - worker.heard > SILENT_SECONDS:
            order = 2
        else:
            order = int(self._settled and not worker.report.complete)
        return order, worker.connections, worker.sent

    def _resume(self) -> None:
        """Connections are passed on again: somebody may take them."""
        while self._waiting:
            if not self._pass(self._waiting.popleft()):
                return
        if not self._announced:
            self._announced = True
            announce(self._settings, self._port)
        if not self._accepting:
            self._accepting = True
            for listener in self._listeners:
                asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _pause(self) -> None:
        """Who comes now waits in the kernel."""
        self._accepting = False
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)

    async def _watch(self) -> None:
        """Workers whose event loop has stopped are killed, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.heartbeat_seconds / 4)
            for worker in self._workers:
                worker.receive(loop.time())  # nobody is to blame for what this process was too slow to read
                silent = loop.time() - worker.heard
                if worker.report and not worker.released and silent > self._settings.heartbeat_seconds:
                    logger.error("worker %d has not been heard of for %.1f s", worker.process.pid, silent)
                    worker.kill()
