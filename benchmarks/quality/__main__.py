"""Runs rows, all of them or those that are named, and writes docs/quality.json and docs/quality.md after each.

A row that was run before keeps its last result until it is run again. Exit code 1 where a row of this run missed.
"""

import argparse
import dataclasses
import datetime
import fcntl
import importlib
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.page import render
from benchmarks.quality.row import Outcome, Row
from benchmarks.serving import print_line
from training.hardware import flush_denormals

DOCS = Path(__file__).parents[2] / "docs"
ROWS = (
    "pca_ladder",
    "vae_textbook",
    "vae_squared_error",
    "importance_weighting",
    "denoising",
    "k_sparse",
    "contractive",
    "one_class",
    "out_of_distribution",
    "breast_cancer",
    "nearest_neighbours",
    "conformal",
)


def main() -> int:
    """Measures what the command line asks for."""
    known = [name.replace("_", "-") for name in ROWS]
    parser = argparse.ArgumentParser(prog="benchmarks.quality", description="Quality against published figures.")
    parser.add_argument("rows", nargs="*", help=f"rows to run (all): {', '.join(known)}")
    parser.add_argument("--full", action="store_true", help="the complete tables, which take up to 90 minutes")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--render", action="store_true", help="only write the page anew from docs/quality.json")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(known):
        parser.error(f"no row is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    flush_denormals()
    torch.set_num_threads(options.threads)
    missed = False
    for name in [] if options.render else options.rows or known:
        row: Row = importlib.import_module(f"benchmarks.quality.{name.replace('-', '_')}").ROW
        start = time.perf_counter()
        outcome = row.measure(options.full)
        seconds = time.perf_counter() - start
        for check in outcome.checks:
            state = "holds" if check.holds else "MISSED"
            print_line(f"{name:22}{state:8}{check.mean:<12.5g}{check.what}")
        missed |= not all(check.holds for check in outcome.checks)
        write(known, row, outcome, seconds=seconds)
    if options.render:
        render(json.loads((DOCS / "quality.json").read_text()), DOCS)
    return 1 if missed else 0


def write(known: list[str], row: Row, outcome: Outcome, *, seconds: float) -> None:
    """The row's result stands in docs/quality.json and on the page, those of the others as they were."""
    plain = dataclasses.asdict(outcome)
    for check, values in zip(outcome.checks, plain["checks"], strict=True):
        values |= {"mean": check.mean, "holds": check.holds}
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "scikit-learn", "pyod"))
    result = {
        "title": row.title,
        "published": row.published,
        "goal": row.goal,
        "outcome": plain,
        "seconds": seconds,
        "machine": f"{os.cpu_count()} CPU cores, Python {platform.python_version()}, {packages}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    with (DOCS / "quality.json").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # rows may run side by side
        file.seek(0)
        results: dict[str, Any] = json.loads(file.read() or "{}") | {row.name: result}
        render({name: results[name] for name in known if name in results}, DOCS)


if __name__ == "__main__":
    raise SystemExit(main())
