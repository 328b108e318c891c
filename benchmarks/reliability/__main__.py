"""Measures rows, all of them or those that are named, and writes docs/reliability.json and docs/reliability.md after
each. A row that was measured before keeps its result until it is measured again. Exit code 1 where a row missed a goal.
"""

import argparse
import dataclasses
import datetime
import importlib
import json
import os
import platform
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.reliability.page import write
from benchmarks.reliability.row import Outcome, Row
from benchmarks.reliability.service import raise_file_limit
from benchmarks.serving import ROOT, print_line

ROWS = ("swaps", "cycles", "overload_forward", "overload_w2", "kills", "idle", "killed_writer")
SOAK = "soak"
PACKAGES = ("uvicorn", "uvloop", "httptools", "onnxruntime", "numpy")


def main() -> int:
    """Does what the command line asks for."""
    known = [name.replace("_", "-") for name in (*ROWS, SOAK)]
    parser = argparse.ArgumentParser(prog="benchmarks.reliability", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"rows to measure (all but soak): {', '.join(known)}")
    parser.add_argument("--minutes", type=float, default=10, help="how long the soak lasts")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder to write to")
    parser.add_argument("--render", action="store_true", help="only write the page anew from reliability.json")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(known):
        parser.error(f"no row is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the service ends with us
    results = _read(options.docs)
    missed = False
    for name in [] if options.render else options.rows or known[:-1]:
        module = importlib.import_module(f"benchmarks.reliability.{name.replace('-', '_')}")
        row: Row = module.row(minutes=options.minutes) if name == SOAK else module.ROW
        load, start = os.getloadavg()[0], time.perf_counter()
        outcome = row.measure()
        results[name] = plain(row, outcome, seconds=time.perf_counter() - start, load=load)
        _show(row, outcome)
        missed |= not all(check.holds for check in outcome.checks)
        write({name: results[name] for name in known if name in results}, options.docs)
    if options.render:
        write({name: results[name] for name in known if name in results}, options.docs)
    return 1 if missed else 0


def plain(row: Row, outcome: Outcome, *, seconds: float, load: float) -> dict[str, Any]:
    """The row as docs/reliability.json has it. `load` is the machine's when it began."""
    found = dataclasses.asdict(outcome)
    for check, values in zip(outcome.checks, found["checks"], strict=True):
        values["holds"] = check.holds
    command = f"make soak MINUTES={row.minutes:g}" if row.minutes else f"python -m benchmarks.reliability {row.name}"
    return {
        "title": row.title,
        "goal": row.goal,
        "outcome": found,
        "command": command,
        "seconds": round(seconds),
        "load": round(load, 2),
        "machine": f"{os.cpu_count()} CPU cores, {_processor()}",
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def _read(docs: Path) -> dict[str, Any]:
    path = docs / "reliability.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _show(row: Row, outcome: Outcome) -> None:
    for check in outcome.checks:
        state = "holds" if check.holds else "MISSED"
        print_line(f"{row.name:14}{state:8}{check.measured:<12.5g}{check.what}")
    for note in outcome.notes:
        print_line(f"{'':14}{note}")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())
