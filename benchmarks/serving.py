"""`make bench`: the service against the limit of its HTTP stack, in one run.

As many workers each (one, or `--workers 2`), the same bodies and the same length of answers, the two taking turns (A B
A B ...), so that a machine that slows down slows both. What counts is the ratio of the medians.
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np

ROOT = Path(__file__).parents[1]
MODEL = "fashion-vae"
JSON = {"Content-Type": "application/json"}


class Cell(NamedTuple):
    """A kind of load: rows in a request, connections."""

    rows: int
    connections: int

    @property
    def name(self) -> str:
        """For example W1c16: one row a request, 16 connections."""
        return f"W{self.rows}c{self.connections}"


class Measured(NamedTuple):
    """What one round of load gave."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float


CELLS = (Cell(1, 1), Cell(1, 16), Cell(1, 64), Cell(64, 4))


def main() -> int:
    """Measures every cell and prints the table. Exit code 1 where wrk is missing or an answer is wrong."""
    if shutil.which("wrk") is None:
        sys.stderr.write("the benchmark needs wrk: apt-get install wrk\n")
        return 1
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--seconds", type=int, default=3, help="of a round")
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    workers = str(chosen.workers)
    rows = np.asarray(example_row(), dtype=np.float32)
    print_line(
        f"{'cell':8} {'service':>22} {'echo':>22} {'ratio':>7}   requests/s (p50, p99 ms), medians of {chosen.rounds}"
    )
    for cell in CELLS:
        with ExitStack() as stack:
            command = [sys.executable, "-c", "from cli.main import main; main()", "serve"]
            service = stack.enter_context(running([*command, "--workers", workers, "--port"]))
            body = {"inputs": np.repeat(rows, cell.rows, axis=0).tolist()}
            url = f"{service}/v1/models/{MODEL}/reconstruct"
            answer = httpx.post(url, json=body, timeout=30)
            if answer.status_code != 200 or len(answer.json()["outputs"]) != cell.rows:
                sys.stderr.write(f"the service did not answer rightly: {answer.text[:200]}\n")
                return 1
            command = [sys.executable, "-m", "benchmarks.echo"]
            echo = stack.enter_context(running([*command, str(len(answer.content)), workers]))
            script = stack.enter_context(wrk_script(answer.request.content))
            for warmed in (url, echo):
                load(warmed, cell.connections, script, seconds=1)
            ours, theirs = [], []
            for _ in range(chosen.rounds):
                ours.append(load(url, cell.connections, script, seconds=chosen.seconds))
                theirs.append(load(echo, cell.connections, script, seconds=chosen.seconds))
        a, b = median(ours), median(theirs)
        print_line(f"{cell.name:8} {show(a):>22} {show(b):>22} {a.requests_per_second / b.requests_per_second:7.3f}")
    return 0


def example_row() -> list[list[float]]:
    """A row of the bundle's own probe, read from disk."""
    from bundle.read import read_bundle, scan

    location = [found for found in scan(ROOT / "models") if found.name == MODEL][-1]
    row: list[list[float]] = read_bundle(location.path).golden.inputs[:1].tolist()
    return row


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running(command: list[str]) -> Iterator[str]:
    """The address of a server process that answers; the command is given its port as the last argument."""
    port = str(free_port())
    settings = {"DIABOLO_MODELS_DIR": str(ROOT / "models"), "DIABOLO_LOG_LEVEL": "warning"}
    process = subprocess.Popen([*command, port], cwd=ROOT, env=os.environ | settings, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


@contextmanager
def wrk_script(body: bytes, headers: Mapping[str, str] = JSON) -> Iterator[Path]:
    """A wrk script that posts this body."""
    sent = ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items())
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(body)
        script = Path(folder) / "post.lua"
        script.write_text(
            f'local file = io.open("{folder}/body", "rb")\n'
            'wrk.method, wrk.body = "POST", file:read("*a")\n'
            f"wrk.headers = {{{sent}}}\n"
            "done = function(summary, latency)\n"
            "  local failed = summary.errors.status + summary.errors.read + summary.errors.timeout\n"
            '  print(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration, failed,'
            " latency:percentile(50), latency:percentile(99)))\n"
            "end\n"
        )
        yield script


def load(url: str, connections: int, script: Path, *, seconds: int) -> Measured:
    """One round of load. Raises RuntimeError when a request failed."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if found is None or found.group(3) != "0":
        raise RuntimeError(f"the load did not go through: {output}")
    requests, microseconds, _, p50, p99 = map(int, found.groups())
    return Measured(requests / microseconds * 1e6, p50 / 1000, p99 / 1000)


def median(rounds: list[Measured]) -> Measured:
    """The median of each figure."""
    return Measured(*(statistics.median(values) for values in zip(*rounds, strict=True)))


def show(measured: Measured) -> str:
    """A cell of the table."""
    return f"{measured.requests_per_second:.0f} ({measured.p50_ms:.1f}, {measured.p99_ms:.1f})"


def print_line(text: str) -> None:
    """One line of the table, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
