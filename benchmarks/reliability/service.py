"""The service as it runs: its processes, and what they hold."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import httpx

from benchmarks.serving import ROOT, free_port
from benchmarks.spread import descendants

__all__ = ["Service", "Usage", "machine_cpu_seconds", "raise_file_limit", "serving"]

COMMAND = [sys.executable, "-c", "from cli.main import main; main()", "serve"]
START_SECONDS = 120.0
STOP_SECONDS = 60.0


class Usage(NamedTuple):
    """What a process holds: resident memory in MB (10^6 bytes), open files, threads."""

    memory: float
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> "Usage":
        """What it holds now. Raises FileNotFoundError or ProcessLookupError once it has ended."""
        folder = Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        if "VmRSS" not in status:
            raise ProcessLookupError(f"process {pid} has ended")
        memory = int(status["VmRSS"].split()[0]) * 1024 / 1e6
        return cls(memory, len(list((folder / "fd").iterdir())), int(status["Threads"]))


@dataclass(frozen=True)
class Service:
    """A supervisor and its workers, over the bundles in `models`. What they say goes to `log`."""

    port: int
    pid: int
    models: Path
    log: Path

    @property
    def address(self) -> str:
        """Where requests go."""
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[int]:
        """Process ids, the oldest first."""
        return sorted(descendants(self.pid), key=lambda pid: (_started(pid), pid))

    def processes(self) -> list[int]:
        """The supervisor and its workers."""
        return [self.pid, *self.workers()]

    def cpu_seconds(self) -> float:
        """Processor time of the supervisor, its workers, and workers that it has replaced."""
        of_workers = (_ticks(pid)[:2] for pid in self.workers())
        return sum(map(sum, [_ticks(self.pid), *of_workers])) / os.sysconf("SC_CLK_TCK")

    def wait_until_ready(self, workers: int) -> None:
        """So many workers serve everything that is in the folder. Raises RuntimeError after two minutes."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            with ExitStack() as stack, contextlib.suppress(httpx.TransportError):
                # Connections are spread evenly, so that each of these has a worker of its own.
                clients = [stack.enter_context(httpx.Client(base_url=self.address)) for _ in range(2 * workers)]
                answers = [client.get("/readyz").status_code for client in clients]
                if set(answers) == {200} and len(self.workers()) == workers:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the service did not become ready; it said:\n{self.log.read_text()[-2000:]}")


@contextmanager
def serving(models: Path, *, workers: int = 2, command: list[str] = COMMAND, **settings: object) -> Iterator[Service]:
    """The service with so many workers, ready; ended afterwards, in order if it can be. `settings` are the service's
    own. Raises RuntimeError when it does not start."""
    port = free_port()
    chosen = {"models_dir": models, "workers": workers, "port": port, "log_level": "warning", **settings}
    environment = {f"DIABOLO_{name.upper()}": str(value) for name, value in chosen.items()}
    log = models.parent / "service.log"
    with log.open("ab") as file:
        process = _start(command, os.environ | {"OMP_NUM_THREADS": "1"} | environment, file)
    try:
        service = Service(port, process.pid, models, log)
        service.wait_until_ready(workers)
        yield service
    finally:
        _stop(process)


def raise_file_limit() -> None:
    """This process, and what it starts, may have as many files open as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _start(command: list[str], environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=log)


def _stop(process: subprocess.Popen[bytes]) -> None:
    started = list(descendants(process.pid))
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def machine_cpu_seconds() -> float:
    """Processor time that all cores have spent on anything since the machine was started."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _started(pid: int) -> int:
    """When the process began, in ticks of the kernel's clock; 0 once it has ended."""
    return int(_status(pid)[19])


def _ticks(pid: int) -> tuple[int, ...]:
    """User's and system's time of a process, and those of its children that have ended; none once it has ended."""
    return tuple(map(int, _status(pid)[11:15]))


def _status(pid: int) -> list[str]:
    """/proc/<pid>/stat after the name: proc(5) counts from 3."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 50
