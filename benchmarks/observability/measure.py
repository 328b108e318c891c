"""The measurements: pairs of rounds, one with and one without, and what they say about the cost."""

import os
import shutil
import statistics
import sys
import tempfile
import timeit
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import comb
from pathlib import Path
from typing import NamedTuple

from benchmarks.collector import Collector, collecting
from benchmarks.observability.variants import COLLECTOR, COMPARISONS, VARIANTS, Comparison
from benchmarks.peers.asked import WIRES, example_rows
from benchmarks.peers.peer import JSON
from benchmarks.peers.process import Server, started
from benchmarks.serving import MODEL, ROOT, Measured, load, median, print_line, wrk_script
from benchmarks.spread import descendants
from service.engine.tally import SECONDS_EDGES, Histogram
from service.engine.timeline import Stage, Timeline

__all__ = ["CONNECTIONS", "WORKERS", "Cost", "always_us", "lost", "measure", "median_interval"]

WORKERS, CONNECTIONS = 2, 16
SERVICE = [sys.executable, "-c", "from cli.main import main; main()", "serve", "--workers", str(WORKERS)]
CONFIDENCE = 0.95
OBSERVED = 6
"""Numbers that are counted of a request of one pass: waiting, the pass, its rows, reading, writing, all of it."""


class Cost(NamedTuple):
    """What a comparison gave, in medians. `ratios` are of the requests per second of one pair of rounds each,
    `cpu_ratios` of how many requests a second of the processor's time answered."""

    comparison: Comparison
    base: Measured
    variant: Measured
    base_cpu_us: float
    variant_cpu_us: float
    ratios: Sequence[float]
    cpu_ratios: Sequence[float]


class Round(NamedTuple):
    """What was measured of it, and the processor's microseconds that the service took for a request."""

    measured: Measured
    cpu_us: float


def measure(*, rounds: int, seconds: int) -> list[Cost]:
    """Every comparison, in pairs of rounds of which each begins now with the one, now with the other. Raises
    RuntimeError when a request fails, or where a collector got nothing."""
    with ExitStack() as stack:
        collector = stack.enter_context(collecting())
        wire, rows = WIRES[JSON], example_rows()[:1]
        script = stack.enter_context(wrk_script(*wire.request(rows)))
        models = stack.enter_context(_one_model())
        servers = {}
        for name, variables in VARIANTS.items():
            settings = _settings(variables, models=models, collector=collector)
            server = stack.enter_context(started([*SERVICE, "--port", "PORT"], settings, (wire, rows)))
            servers[name] = server
            load(server.address + wire.path, CONNECTIONS, script, seconds=1)

        def a_round(name: str) -> Round:
            server = servers[name]
            before = _cpu_seconds(server)
            measured = load(server.address + wire.path, CONNECTIONS, script, seconds=seconds)
            spent = _cpu_seconds(server) - before
            return Round(measured, spent / seconds / measured.requests_per_second * 1e6)

        figures: dict[Comparison, dict[str, list[Round]]] = {
            compared: {compared.base: [], compared.variant: []} for compared in COMPARISONS
        }
        for number in range(rounds):
            for compared, taken in figures.items():
                names = [compared.base, compared.variant]
                for name in names if number % 2 == 0 else reversed(names):
                    taken[name].append(a_round(name))
                last = _cost(compared, taken)
                print_line(f"{number + 1}: {compared.title}: {last.ratios[-1]:.3f}, {last.cpu_ratios[-1]:.3f}")
        if not collector.taken():
            raise RuntimeError("no spans came")
    return [_cost(compared, taken) for compared, taken in figures.items()]


def _cost(compared: Comparison, taken: Mapping[str, Sequence[Round]]) -> Cost:
    bases, variants = taken[compared.base], taken[compared.variant]
    pairs = list(zip(bases, variants, strict=True))
    return Cost(
        compared,
        base=median([each.measured for each in bases]),
        variant=median([each.measured for each in variants]),
        base_cpu_us=statistics.median(each.cpu_us for each in bases),
        variant_cpu_us=statistics.median(each.cpu_us for each in variants),
        ratios=[with_it.measured.requests_per_second / base.measured.requests_per_second for base, with_it in pairs],
        cpu_ratios=[base.cpu_us / with_it.cpu_us for base, with_it in pairs],
    )


def _cpu_seconds(server: Server) -> float:
    """The processor's time of the service, all its processes together."""
    ticks = 0
    for pid in (server.pid, *descendants(server.pid)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Between these two of the values the median of what they were drawn from lies with at least this confidence: how
    many lie below it is binomial, whatever they are (the sign test's interval). Raises ValueError for too few values.
    """
    ordered, count = sorted(values), len(values)
    outside = 0.0
    place = 0
    while place < count and outside + 2 * comb(count, place) / 2**count <= 1 - confidence:
        outside += 2 * comb(count, place) / 2**count
        place += 1
    if place == 0:
        raise ValueError(f"{count} values say nothing with a confidence of {confidence:g}")
    return ordered[place - 1], ordered[count - place]


def always_us() -> float:
    """Microseconds that counting and timing a request of one pass take: the numbers that all variants have."""
    histogram = Histogram(SECONDS_EDGES)

    def request() -> None:
        timeline = Timeline()
        for name in ("decode", "encode"):
            timeline.begin(name).ends()
        passing = Stage("forward", rows=1)
        timeline.leave_queue(timeline.begin("queue"), passing, timeline.start)
        passing.begins(timeline.start)
        for _ in range(OBSERVED):
            histogram.observe(0.0003)

    count = 10_000
    return min(timeit.repeat(request, number=count, repeat=5)) / count * 1e6


def _settings(variables: Mapping[str, str], *, models: Path, collector: Collector) -> dict[str, str]:
    """Everything about observing is the variant's alone."""
    unset = {name: "" for name in os.environ if name.startswith("OTEL_")}
    said = {name: collector.url if value == COLLECTOR else value for name, value in variables.items()}
    return {**unset, "DIABOLO_MODELS_DIR": str(models), **said}


@contextmanager
def _one_model() -> Iterator[Path]:
    """A folder with nothing but the bundle that is asked."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "models" / MODEL, Path(folder) / MODEL)
        yield Path(folder)


def lost(ratios: Sequence[float]) -> tuple[float, float, float]:
    """The share that is lost: the median of the pairs, and the interval of that."""
    low, high = median_interval(ratios)
    return 1 - statistics.median(ratios), 1 - high, 1 - low
