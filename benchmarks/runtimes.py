"""TorchScript against ONNX behind the same bundles: start to ready, memory, and the time of a forward pass.

Every round starts a server with one worker for each runtime in turn (A B A B ...), as somebody would, and afterwards a
process for each that does nothing but forward passes. Figures are medians over rounds. One thread each, as a worker for
each core has.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import httpx
import numpy as np

from benchmarks.serving import ROOT, free_port, print_line
from bundle.operations import Method
from bundle.read import Bundle, read_bundle, scan
from service.engine.runtimes.selection import runtime_opener
from service.machine import RuntimeName

RUNTIMES: tuple[RuntimeName, ...] = ("torchscript", "onnx")
ROWS = (1, 16, 64, 256)
REQUESTS = 25
REPEATS = 200
PATIENCE = 60


def main() -> int:
    """Measures and prints. Exit code 1 where a bundle has no ONNX."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--models", type=Path, default=ROOT / "models")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--forward", choices=RUNTIMES, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    bundles = [read_bundle(location.path) for location in scan(chosen.models)]
    if chosen.forward:
        print_line(json.dumps(forward(chosen.forward, bundles)))
        return 0
    if not bundles or any("onnx" not in bundle.manifest.artefacts for bundle in bundles):
        sys.stderr.write(f"every bundle in {chosen.models} must have ONNX\n")
        return 1
    found: dict[str, dict[str, list[float]]] = {runtime: defaultdict(list) for runtime in RUNTIMES}
    for _ in range(chosen.rounds):
        for runtime in RUNTIMES:
            for name, value in serving(runtime, chosen.models, bundles).items():
                found[runtime][name].append(value)
    for _ in range(chosen.rounds):
        for runtime in RUNTIMES:
            command = [sys.executable, "-m", "benchmarks.runtimes", "--forward", runtime, "--models", chosen.models]
            ended = subprocess.run(
                command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, check=True
            )
            for name, value in json.loads(ended.stdout).items():
                found[runtime][name].append(value)
    print_line(f"| | TorchScript | ONNX | ratio |\n|---|---:|---:|---:|\n{table(found)}")
    return 0


def table(found: dict[str, dict[str, list[float]]]) -> str:
    """A line for each figure: the medians, and how many times as much TorchScript takes."""
    lines = []
    for name in found["onnx"]:
        torch, onnx = (statistics.median(found[runtime][name]) for runtime in RUNTIMES)
        lines.append(f"| {name} | {torch:.3g} | {onnx:.3g} | {torch / onnx:.2f} |")
    return "\n".join(lines)


def serving(runtime: RuntimeName, models: Path, bundles: list[Bundle]) -> dict[str, float]:
    """Seconds from the start of the command to ready, and megabytes that the server holds then and after a load."""
    port = str(free_port())
    settings = {
        "DIABOLO_MODELS_DIR": str(models.resolve()),
        "DIABOLO_RUNTIME": runtime,
        "DIABOLO_DEVICE": "cpu",
        "DIABOLO_LOG_LEVEL": "warning",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", "from cli.main import main; main()", "serve", "--workers", "1", "--port", port]
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stdout=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            wait_until_ready(client)
            seconds = time.perf_counter() - started
            computed, before = computing(process.pid), resident(process.pid)
            for bundle in bundles:
                body = {"inputs": np.resize(bundle.golden.inputs, (64, bundle.manifest.input.size)).tolist()}
                for _ in range(REQUESTS):
                    for operation in ("reconstruct", "anomaly-score"):
                        path = f"/v1/models/{bundle.manifest.name}/{operation}"
                        client.post(path, json=body).raise_for_status()
            return {
                "start to ready, s": seconds,
                "of which computing, s": computed,
                "memory at ready, MB": before,
                "memory after load, MB": resident(process.pid),
            }
    finally:
        process.kill()
        process.wait()


def wait_until_ready(client: httpx.Client) -> None:
    """Returns as soon as the server is ready. Raises TimeoutError after a minute."""
    for _ in range(PATIENCE * 100):
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.01)
    raise TimeoutError("the server is not ready")


def computing(pid: int) -> float:
    """Seconds that the process has kept a core busy, which others' work on the machine changes little."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Megabytes of memory that are the process' own at the moment, or mapped from files."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def forward(runtime: RuntimeName, bundles: list[Bundle]) -> dict[str, float]:
    """Microseconds of `reconstruct` by bundle and number of rows, the median of many."""
    open_runtime = runtime_opener(runtime, device="cpu")
    found = {}
    for bundle in bundles:
        opened = open_runtime(bundle)
        for count in ROWS:
            rows = np.resize(bundle.golden.inputs, (count, bundle.manifest.input.size))
            turns = []
            for _ in range(REPEATS):
                started = time.perf_counter()
                opened.run(Method.RECONSTRUCT, rows)
                turns.append(time.perf_counter() - started)
            found[f"{bundle.manifest.name}, {count} rows, µs"] = statistics.median(turns) * 1e6
    return found


if __name__ == "__main__":
    raise SystemExit(main())
