"""Measures the servers that the command line names, all of them by default, and writes docs/performance.json and .md,
or prints the page.

First every variant of every peer, next to the echo; then, in each cell, the service between the best of them and the
echo. Exit code 1 where wrk is missing, the service answers wrongly or no peer answers rightly.
"""

import argparse
import json
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.peers.measure import Pace
from benchmarks.peers.page import page, write
from benchmarks.peers.peer import PEERS
from benchmarks.peers.run import run
from benchmarks.serving import ROOT, print_line


def main() -> int:
    """Does what the command line asks for."""
    known = {peer.name: peer for peer in PEERS}
    options = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    options.add_argument("peers", nargs="*", help=f"servers to compare with (all): {', '.join(known)}")
    options.add_argument("--seconds", type=int, default=2, help="of a round")
    options.add_argument("--rounds", type=int, default=5, help="of the service between its best rival and the echo")
    options.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder to write to")
    options.add_argument("--print", action="store_true", help="write nothing: the page goes to standard output")
    options.add_argument("--render", action="store_true", help="only write the page anew from performance.json")
    chosen = options.parse_args()
    if unknown := set(chosen.peers) - set(known):
        options.error(f"no peer is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    if chosen.render:
        write(json.loads((chosen.docs / "performance.json").read_text()), chosen.docs)
        return 0
    if shutil.which("wrk") is None:
        sys.stderr.write("the benchmark needs wrk: apt-get install wrk\n")
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the servers end with us
    with ExitStack() as stack:
        peers = [known[name] for name in chosen.peers or known]
        results = run(peers, Pace(chosen.rounds, chosen.seconds), stack=stack)
        if chosen.print:
            print_line(page(results))
        else:
            write(results, chosen.docs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
