"""The measurements: every server next to the echo, then the service between its best rival and the echo."""

import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import pairwise
from typing import NamedTuple

from benchmarks.peers.peer import BINARY, JSON
from benchmarks.peers.process import Server
from benchmarks.peers.wires import Rows, Wire
from benchmarks.serving import Measured, load, median, wrk_script

__all__ = ["CELLS", "Cell", "Compared", "Contender", "Pace", "between", "ratios"]


class Cell(NamedTuple):
    """A kind of load."""

    name: str
    wire: str
    rows: int
    connections: int


CELLS = (
    Cell("W1c1", JSON, 1, 1),
    Cell("W1c16", JSON, 1, 16),
    Cell("W1c64", JSON, 1, 64),
    Cell("W2c4", JSON, 64, 4),
    Cell("W3c16", BINARY, 1, 16),
)


class Pace(NamedTuple):
    """Rounds of so many seconds."""

    rounds: int
    seconds: int


class Contender(NamedTuple):
    """A server that runs, and how to speak to it."""

    server: Server
    wires: Mapping[str, Wire]


class Compared(NamedTuple):
    """Medians of alternating rounds, and the median of each round's ratio to the mean of its two neighbours."""

    figures: dict[str, Measured]
    ratios: dict[str, float]


def between(middle: Contender, neighbours: Mapping[str, Contender], cell: Cell, rows: Rows, pace: Pace) -> Compared:
    """Rounds of `middle`, each between two of every neighbour, whose mean counts. Figures and ratios are by the
    neighbour's name; `middle` itself is "".

    Raises RuntimeError when a request fails.
    """
    with ExitStack() as stack:
        targets = {}
        for name, contender in {**neighbours, "": middle}.items():
            wire = contender.wires[cell.wire]
            script = stack.enter_context(wrk_script(*wire.request(rows[: cell.rows])))
            targets[name] = (contender.server.address + wire.path, script)

        def measure(name: str, seconds: int) -> Measured:
            url, script = targets[name]
            return load(url, cell.connections, script, seconds=seconds)

        for name in targets:
            measure(name, 1)
        figures = {name: [measure(name, pace.seconds)] for name in neighbours}
        figures[""] = []
        for _ in range(pace.rounds):
            figures[""].append(measure("", pace.seconds))
            for name in neighbours:
                figures[name].append(measure(name, pace.seconds))
    return Compared({name: median(taken) for name, taken in figures.items()}, ratios(figures))


def ratios(figures: Mapping[str, list[Measured]]) -> dict[str, float]:
    """The median, over the rounds of "", of its requests per second by the mean of those before and after it."""
    found = {}
    for name, taken in figures.items():
        if name:
            means = [(a.requests_per_second + b.requests_per_second) / 2 for a, b in pairwise(taken)]
            pairs = zip(figures[""], means, strict=True)
            found[name] = statistics.median(middle.requests_per_second / mean for middle, mean in pairs)
    return found
