"""Bare forward passes, the limit of everything around them: `python -m benchmarks.forward`.

Two processes at once, as many as the service has workers, each with one thread and nothing to do but reconstruct the
same batch with the runtime that the service would choose.
"""

import os
import subprocess
import sys
import time

from benchmarks.peers.asked import example_rows
from benchmarks.serving import MODEL, ROOT, print_line
from bundle.operations import Method
from bundle.read import read_bundle, scan
from service.engine.runtimes.selection import runtime_opener

__all__ = ["ROWS", "rows_per_second"]

ROWS = (1, 16, 64)
PROCESSES, SECONDS, WARM = 2, 3.0, 20


def main() -> int:
    """Prints rows a second for batches of every size."""
    if len(sys.argv) > 1:
        print_line(str(_count(int(sys.argv[1]), float(sys.argv[2]))))
        return 0
    for rows in ROWS:
        print_line(f"batches of {rows:3}: {rows_per_second(rows):9.0f} rows/s")
    return 0


def rows_per_second(rows: int, *, seconds: float = SECONDS) -> float:
    """How many rows all processes together get through, in batches of `rows`."""
    command = [sys.executable, "-m", "benchmarks.forward", str(rows), str(seconds)]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    return sum(float(process.communicate()[0]) for process in running)


def _count(rows: int, seconds: float) -> float:
    """Rows a second of this process."""
    location = [found for found in scan(ROOT / "models") if found.name == MODEL][-1]
    runtime = runtime_opener("auto", device="cpu")(read_bundle(location.path))
    batch = example_rows()[:rows]
    for _ in range(WARM):
        runtime.run(Method.RECONSTRUCT, batch)
    passes, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        runtime.run(Method.RECONSTRUCT, batch)
        passes += 1
    return passes * rows / (time.perf_counter() - start)


if __name__ == "__main__":
    raise SystemExit(main())
