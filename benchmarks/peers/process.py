"""A server of the benchmark as a process: started, waited for, weighed, ended with all that it started."""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from benchmarks.peers.answers import WrongAnswer
from benchmarks.peers.wires import Rows, Wire
from benchmarks.serving import ROOT, free_port
from benchmarks.spread import descendants

__all__ = ["Server", "started"]

PATIENCE = 60
CONNECTIONS = 16
REFUSALS = {413, 415, 422}  # waiting mends none of them
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class Server(NamedTuple):
    """A running server."""

    address: str
    pid: int

    def memory_mib(self) -> float:
        """What it and all that it started hold, each shared page counted once."""
        kib = 0
        for pid in (self.pid, *descendants(self.pid)):
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                kib += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return kib / 1024


@contextmanager
def started(command: list[str], settings: dict[str, str], probe: tuple[Wire, Rows]) -> Iterator[Server]:
    """A server that has answered the probe on each of 16 connections at once, in an empty folder of its own. PORT
    in its command stands for the port that it is given.

    Raises WrongAnswer when it ends before, or is not right for a minute.
    """
    port = str(free_port())
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        process = subprocess.Popen(
            [port if part == "PORT" else part for part in command],
            cwd=folder,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": str(ROOT)} | settings,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = Server(f"http://127.0.0.1:{port}", process.pid)
        try:
            _wait(server, process, probe, Path(folder) / "log")
            yield server
        finally:
            _end(process)


def _wait(server: Server, process: subprocess.Popen[bytes], probe: tuple[Wire, Rows], log: Path) -> None:
    wire, rows = probe
    request = wire.request(rows)
    last = "it does not listen"
    until = time.monotonic() + PATIENCE

    def post(_: int) -> httpx.Response:
        url, headers = server.address + wire.path, dict(request.headers)
        return httpx.post(url, content=request.body, headers=headers, timeout=PATIENCE)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        while time.monotonic() < until and process.poll() is None:
            try:
                answers = list(pool.map(post, range(CONNECTIONS)))
            except httpx.TransportError as error:
                last = repr(error)
            else:
                bad = [answer for answer in answers if answer.status_code != httpx.codes.OK]
                if not bad:
                    return
                last = f"status {bad[0].status_code}: {bad[0].text[:200]}"
                if bad[0].status_code in REFUSALS:
                    break
            time.sleep(0.2)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    ended = "" if process.poll() is None else f"it ended with code {process.returncode}; "
    raise WrongAnswer(f"{ended}{last}; its last words: {' / '.join(said[-3:])[:400]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the process, and whatever it leaves behind."""
    family = {pid: _start(pid) for pid in descendants(process.pid)}
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    process.kill()
    process.wait()
    for pid, start in family.items():
        if start is not None and _start(pid) == start:  # else the number is somebody else's by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _start(pid: int) -> str | None:
    """When a process began, in ticks of the machine; none where it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
