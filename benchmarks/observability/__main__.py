"""`make bench-observability`: what metrics, lines and traces cost. Writes docs/observability.json and the end of
docs/observability.md. Exit code 1 where wrk is missing."""

import argparse
import datetime
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.observability.measure import CONNECTIONS, WORKERS, Cost, always_us, lost, measure
from benchmarks.observability.page import section, write
from benchmarks.observability.variants import VARIANTS
from benchmarks.peers.run import machine
from benchmarks.serving import ROOT, print_line


def main() -> int:
    """Does what the command line asks for."""
    options = argparse.ArgumentParser(prog="benchmarks.observability", description=__doc__)
    options.add_argument("--seconds", type=int, default=2, help="of a round")
    options.add_argument("--rounds", type=int, default=12, help="pairs of each comparison; at least 6")
    options.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder to write to")
    options.add_argument("--print", action="store_true", help="print the section, and write nothing")
    options.add_argument("--render", action="store_true", help="only write the page anew from observability.json")
    chosen = options.parse_args()
    if chosen.rounds < 6:
        options.error("fewer than 6 pairs have no interval of 95 %")
    if chosen.render:
        write(json.loads((chosen.docs / "observability.json").read_text()), chosen.docs)
        return 0
    if shutil.which("wrk") is None:
        sys.stderr.write("the benchmark needs wrk: apt-get install wrk\n")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the services end with us
    results = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "variants": len(VARIANTS),
        "load_before": round(os.getloadavg()[0], 1),
        "workers": WORKERS,
        "connections": CONNECTIONS,
        "pace": {"rounds": chosen.rounds, "seconds": chosen.seconds},
        "always_us": round(always_us(), 2),
        "costs": [as_json(cost) for cost in measure(rounds=chosen.rounds, seconds=chosen.seconds)],
        "machine": machine(),
    }
    if chosen.print:
        print_line(section(results))
    else:
        write(results, chosen.docs)
    return 0


def as_json(cost: Cost) -> dict[str, Any]:
    """It as docs/observability.json has it."""
    return {
        "title": cost.comparison.title,
        "goal": cost.comparison.goal,
        "throughput": _lost(cost.ratios),
        "processor": _lost(cost.cpu_ratios),
        "without": {**cost.base._asdict(), "cpu_us": cost.base_cpu_us},
        "with": {**cost.variant._asdict(), "cpu_us": cost.variant_cpu_us},
    }


def _lost(ratios: Sequence[float]) -> dict[str, Any]:
    cost, low, high = lost(ratios)
    return {"cost": cost, "low": low, "high": high, "ratios": ratios}


if __name__ == "__main__":
    raise SystemExit(main())
