"""`make bench-spread`: how many of 4, 16 and 64 keep-alive connections each worker has.

The service under its supervisor, and the same bytes by uvicorn's own workers, which share one listening socket;
`python -m benchmarks.spread 8123 COMMAND ...` measures any other server that listens on that port.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from benchmarks.serving import ROOT, free_port, print_line

__all__ = ["connections_of", "descendants"]

CONNECTIONS = (4, 16, 64)
SECONDS, ROUNDS, WORKERS = 2, 5, 2
SETTLED = 0.5  # until the connections of a load have ended for everybody
ESTABLISHED = "01"


def main() -> int:
    """Measures and prints the table. Exit code 1 where wrk is missing."""
    if shutil.which("wrk") is None:
        sys.stderr.write("the benchmark needs wrk: apt-get install wrk\n")
        return 1
    port = free_port()
    servers = {
        "diabolo serve": [sys.executable, "-c", "from cli.main import main; main()", "serve", "--port", str(port)],
        "one shared socket": [sys.executable, "-m", "benchmarks.echo", "16", str(WORKERS), str(port), "--shared"],
    }
    if len(sys.argv) > 2:
        port, servers = int(sys.argv[1]), {sys.argv[2]: sys.argv[2:]}
    print_line(f"{'server':20} {'connections':>11}   of each worker, {ROUNDS} rounds (requests/s)")
    for name, command in servers.items():
        for connections in CONNECTIONS:
            with serving(command, port) as pid:
                rounds = [measure(pid, port, connections) for _ in range(ROUNDS)]
            print_line(f"{name:20} {connections:11}   " + "  ".join(rounds))
    return 0


def measure(pid: int, port: int, connections: int) -> str:
    """The connections of each worker in the middle of a load, and the requests that were answered in a second."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", f"http://127.0.0.1:{port}/livez"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        time.sleep(SECONDS / 2)
        counts = sorted(connections_of([*descendants(pid)], port).values(), reverse=True)[:WORKERS]
        output, _ = load.communicate()
    time.sleep(SETTLED)
    speed = next(line.split()[1] for line in output.splitlines() if line.startswith("Requests/sec"))
    return f"{' + '.join(map(str, counts))} ({float(speed):.0f})"


@contextmanager
def serving(command: list[str], port: int) -> Iterator[int]:
    """The process id of a server with two workers that are ready."""
    settings = {
        "DIABOLO_WORKERS": str(WORKERS),
        "DIABOLO_LOG_LEVEL": "warning",
        "DIABOLO_MODELS_DIR": str(ROOT / "models"),
    }
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stdout=subprocess.DEVNULL)
    try:
        with ExitStack() as stack:
            clients = [stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}")) for _ in range(WORKERS)]
            for client in clients:
                _wait_until_ready(client)
        time.sleep(1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(client: httpx.Client) -> None:
    for _ in range(600):
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the server does not answer")


def descendants(pid: int) -> Iterator[int]:
    """The processes that this one started, and those that they started."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from descendants(child)


def connections_of(pids: Iterable[int], port: int) -> Counter[int]:
    """Process id -> established connections to this port of the machine itself that the process holds."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = {
        f"socket:[{row[9]}]" for row in rows if row[3] == ESTABLISHED and int(row[1].rpartition(":")[2], 16) == port
    }
    counts: Counter[int] = Counter()
    for pid in pids:
        counts[pid] = 0
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    counts[pid] += str(link.readlink()) in established
    return counts


if __name__ == "__main__":
    raise SystemExit(main())
