"""What benchmarks of a serving process have in common: the shipped bundle that is asked, and load from `wrk`."""

import re
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MODEL = "fashion-vae"
JSON = {"Content-Type": "application/json"}


class Measured(NamedTuple):
    """What one round of load gave."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


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


def print_line(text: str) -> None:
    """One line of the table, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
