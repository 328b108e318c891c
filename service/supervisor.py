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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from service.announcement import announce
from service.balancer import Balancer
from service.channel import DRAIN, READY, open_channel
from service.listening import STARTUP_FAILURE, listen_or_exit
from service.machine import may_use_gpu, usable_cores
from service.monitoring.shared import clear, ended
from service.monitoring.temporary import temporary_folder
from service.settings import Settings
from service.worker_process import WorkerProcess

__all__ = ["Supervisor", "next_pause", "supervise", "worker_count"]

MOST_WORKERS = 4
LATE_SECONDS = 5
TOGETHER_SECONDS = 10.0
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
WORKER = (sys.executable, "-P", "-m", "service.worker")
logger = logging.getLogger("diabolo.supervisor")


def supervise(settings: Settings, workers: int, *, command: Sequence[str] = WORKER) -> NoReturn:
    """Serves by so many workers until SIGTERM or SIGINT: then all are not ready, `drain_delay` seconds later no
    connection is accepted, what was accepted is answered within `drain_seconds`, and the process exits with 0. Exits
    with 3 when it cannot start."""
    listeners = listen_or_exit(settings)
    with _metrics_shared(settings) as settings:
        raise SystemExit(asyncio.run(Supervisor(settings, listeners, workers=workers, command=command).run()))


@contextlib.contextmanager
def _metrics_shared(settings: Settings) -> Iterator[Settings]:
    """The settings with a folder in which workers share their metrics, and nothing of earlier ones; if it is temporary,
    until the end."""
    with contextlib.ExitStack() as stack:
        folder = None
        try:
            if settings.metrics:
                made = settings.metrics_dir or stack.enter_context(temporary_folder())
                clear(made)
                folder = made
        except OSError as error:
            logger.error("each worker has metrics of its own: they cannot be shared: %s", error.strerror)
        yield settings.model_copy(update={"metrics_dir": folder})


def worker_count(settings: Settings) -> int:
    """How many workers the settings mean: one for a GPU, which one process keeps busy and whose memory each would take;
    else one for each core that this process has the time of, and each runs its forward passes on its own."""
    if settings.workers:
        return settings.workers
    gpu = settings.runtime != "onnx" and may_use_gpu(settings.device)
    return 1 if gpu or sys.platform != "linux" else min(usable_cores(), MOST_WORKERS)


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
        self._workers: list[WorkerProcess] = []
        self._balancer = Balancer(listeners, self._workers)
        self._port = listeners[0].getsockname()[1]
        self._count = workers
        self._command = command
        self._end_seconds = 2 * settings.drain_seconds + LATE_SECONDS
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
        self._balancer.close()
        for worker in self._workers:
            worker.release()
        _, late = await asyncio.wait(places, timeout=self._end_seconds)
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

    async def _occupy(self) -> None:
        """One worker after the other, until the service stops."""
        pause = 0.0
        while not self._stopping.is_set():
            proven, end = await self._life()
            if self._stopping.is_set():
                break
            if not self._heard:
                logger.error("%s, and no worker has started before", end)
                self._code = STARTUP_FAILURE
                self._stopping.set()
                break
            pause = next_pause(pause, proven=proven)
            logger.error("%s; it is replaced%s", end, f" in {pause:g} s" if pause else "")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _life(self) -> tuple[bool, str]:
        """Whether a worker proved that it can start, and how it ended."""
        born = asyncio.get_running_loop().time()
        try:
            worker = await self._start()
        except OSError as error:
            return False, f"a worker cannot be started: {error.strerror}"
        code = await worker.process.wait()
        self._bury(worker)
        lived = asyncio.get_running_loop().time() - born
        how = f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
        end = f"worker {worker.process.pid} ended after {lived:.0f} s with {how}"
        return worker.proven or lived > LONGEST_PAUSE_SECONDS, end

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
        threads = str(max(1, usable_cores() // self._count))
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        return {"OMP_NUM_THREADS": threads} | os.environ | {"PYTHONPATH": path}

    def _bury(self, worker: WorkerProcess) -> None:
        """What the worker had not taken goes to the others."""
        asyncio.get_running_loop().remove_reader(worker.channel)
        worker.receive(0)
        worker.channel.close()
        self._workers.remove(worker)
        self._keep_metrics(worker.process.pid)
        self._start_is_over()
        while worker.untaken:
            self._balancer.hand_over(worker.untaken.popleft())

    def _keep_metrics(self, pid: int) -> None:
        """What a worker that has ended has counted stays."""
        if self._settings.metrics_dir is not None:
            try:
                ended(self._settings.metrics_dir, pid, asked=self._stopping.is_set())
            except (OSError, ValueError) as error:
                logger.error("what worker %d has counted is lost: %s", pid, error)

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
            loop.call_later(self._settings.drain_delay, self._let_go, worker)
        self._settle(loop.time())
        if self._settled or sum(other.report is not None for other in self._workers) == self._count:
            self._open()

    def _let_go(self, worker: WorkerProcess) -> None:
        """It ends in time, by itself or not."""
        worker.release()
        asyncio.get_running_loop().call_later(self._end_seconds, self._end, worker)

    def _end(self, worker: WorkerProcess) -> None:
        if worker in self._workers:
            logger.error("worker %d did not end in time and is killed", worker.process.pid)
            worker.kill()

    def _settle(self, now: float) -> None:
        """All workers become ready together, so that none begins with all connections; but they wait only so long."""
        complete = sum(worker.report is not None and worker.report.complete for worker in self._workers)
        if complete and self._first_complete is None:
            self._first_complete = now
        if complete == self._count or (complete and now > (self._first_complete or now) + TOGETHER_SECONDS):
            self._start_is_over()

    def _open(self) -> None:
        if not self._announced:
            self._announced = True
            announce(self._settings, self._port)
        self._balancer.open()

    def _start_is_over(self) -> None:
        if not self._settled:
            self._settled = self._balancer.only_complete = True
            for worker in self._workers:
                worker.tell(READY)

    async def _watch(self) -> None:
        """Workers whose event loop has stopped are killed, for ever; but not while they load for the first time, when
        an import can hold up everything."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._settings.heartbeat_seconds / 4)
            for worker in self._workers:
                worker.receive(loop.time())  # nobody is to blame for what this process was too slow to read
                silent = loop.time() - worker.heard
                if worker.proven and not worker.released and silent > self._settings.heartbeat_seconds:
                    logger.error("worker %d has not been heard of for %.1f s", worker.process.pid, silent)
                    worker.kill()
