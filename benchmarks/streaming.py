"""`make bench-streaming`: a million rows through one connection, and the memory of the service meanwhile.

curl sends the lines and reads the answers at the same time; every answer line is checked. The same rows as JSON
requests of 256, one after the other over one connection, are measured before and after: what counts is the ratio.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from benchmarks.serving import ROOT, free_port, print_line

RESULT = ROOT / "docs" / "performance-streaming.json"
DIABOLO = [sys.executable, "-c", "from cli.main import main; main()"]
FEATURES, ROWS_IN_REQUEST, REQUESTS = 8, 256, 200
PATH = "/v1/models/table/anomaly-score"
SECONDS_BETWEEN_SAMPLES = 0.05


class Service(NamedTuple):
    """A running service of one worker."""

    port: int
    pid: int

    def resident_mib(self) -> float:
        """The memory that the process holds."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def main() -> int:
    """Measures, prints and writes the result. Exit code 1 where an answer is wrong."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--write", action="store_true", help=f"write {RESULT.relative_to(ROOT)}")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = make_rows(asked.rows)
        publish(Path(folder), rows)
        lines = Path(folder) / "rows.ndjson"
        lines.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows.tolist()))
        with serving(Path(folder) / "models") as service:
            requests_before = measure_requests(service, rows)
            stream, memory = measure_stream(service, lines, expected=asked.rows)
            requests_after = measure_requests(service, rows)
    requests = statistics.mean((requests_before, requests_after))
    settled = memory[len(memory) // 10 :]
    found = {
        "rows": asked.rows,
        "values in a row": FEATURES,
        "rows per second, one stream": round(stream),
        "rows per second, JSON requests of 256 rows": round(requests),
        "ratio": round(stream / requests, 2),
        "resident MiB: before, after a tenth, at most, at the end": [
            round(value, 1) for value in (memory[0], settled[0], max(memory), memory[-1])
        ],
        "growth in MiB after the first tenth": round(max(settled) - settled[0], 1),
    }
    print_line(json.dumps(found, indent=1))
    if asked.write:
        RESULT.write_text(json.dumps(found, indent=1) + "\n")
    return 0


def make_rows(count: int) -> np.ndarray:
    """Readings of eight sensors that follow two causes, four decimals each."""
    generator = np.random.default_rng(0)
    causes, mixing = generator.normal(size=(count, 2)), generator.normal(size=(2, FEATURES))
    return np.round(causes @ mixing + 0.1 * generator.normal(size=(count, FEATURES)), 4)


def publish(folder: Path, rows: np.ndarray) -> None:
    """A bundle trained on the first 4,000 of these rows."""
    names = ",".join(f"sensor_{index}" for index in range(FEATURES))
    np.savetxt(folder / "table.csv", rows[:4000], delimiter=",", header=names, comments="", fmt="%.4f")
    options = "--data table.csv --family vanilla --latent 2 --name table --epochs 3 --device cpu --models-dir models"
    subprocess.run(
        [*DIABOLO, "train", *options.split()],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.DEVNULL,
    )


@contextmanager
def serving(models: Path) -> Iterator[Service]:
    """A service over these bundles that is ready."""
    port = free_port()
    settings = {"MODELS_DIR": str(models), "PORT": str(port), "WORKERS": "1", "LOG_LEVEL": "warning"}
    environment = os.environ | {f"DIABOLO_{name}": value for name, value in settings.items()}
    process = subprocess.Popen([*DIABOLO, "serve"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.1)
        yield Service(port, process.pid)
    finally:
        process.terminate()
        process.wait()


def measure_requests(service: Service, rows: np.ndarray) -> float:
    """Rows a second in JSON requests, one after the other on one connection."""
    bodies = [
        orjson.dumps({"inputs": rows[start : start + ROWS_IN_REQUEST].tolist()})
        for start in range(0, min(len(rows), ROWS_IN_REQUEST * REQUESTS), ROWS_IN_REQUEST)
    ]
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    answered, started = 0, time.perf_counter()
    for body in bodies:
        connection.request("POST", PATH, body, {"Content-Type": "application/json"})
        answered += len(orjson.loads(connection.getresponse().read())["scores"])
    return answered / (time.perf_counter() - started)


def measure_stream(service: Service, lines: Path, *, expected: int) -> tuple[float, list[float]]:
    """Rows a second in one stream, and the service's memory in MiB from before it to its end. Raises RuntimeError where
    an answer is missing, out of order or a problem."""
    command = [
        "curl",
        "-sN",
        "-T",
        str(lines),
        "-X",
        "POST",
        "-H",
        "Content-Type: application/x-ndjson",
        "-H",
        "Expect:",
    ]
    memory, ended = [service.resident_mib()], threading.Event()

    def sample() -> None:
        while not ended.wait(SECONDS_BETWEEN_SAMPLES):
            memory.append(service.resident_mib())

    sampler = threading.Thread(target=sample)
    started = time.perf_counter()
    sampler.start()
    try:
        with subprocess.Popen([*command, f"http://127.0.0.1:{service.port}{PATH}"], stdout=subprocess.PIPE) as curl:
            assert curl.stdout is not None
            for index, text in enumerate(curl.stdout):
                answer = orjson.loads(text)
                if index == expected and answer == {"done": True, "rows": expected}:
                    return expected / (time.perf_counter() - started), memory
                if answer.get("index") != index or "score" not in answer:
                    raise RuntimeError(f"line {index} is {text[:200]!r}")
        raise RuntimeError("the stream was cut off")
    finally:
        ended.set()
        sampler.join()


if __name__ == "__main__":
    raise SystemExit(main())
