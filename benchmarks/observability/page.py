"""The part of docs/observability.md that says what observing costs, and docs/observability.json."""

import json
from pathlib import Path
from typing import Any

__all__ = ["section", "write"]

HEADING = "## What it costs"
TABLE = """| what | requests/s lost (95 % interval) | goal | processor time per request (95 % interval) | requests/s and p99 without | with |
|---|---|---|---|---|---|
"""  # noqa: E501


def write(results: dict[str, Any], docs: Path) -> None:
    """`docs`/observability.json and the end of observability.md show `results`; what stands before that stays."""
    (docs / "observability.json").write_text(json.dumps(results, indent=1) + "\n")
    page = docs / "observability.md"
    page.write_text(page.read_text().partition(HEADING)[0] + section(results))


def section(results: dict[str, Any]) -> str:
    """It as Markdown."""
    pace, machine = results["pace"], results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return f"""{HEADING}

`make bench-observability`: {results["variants"]} services of {results["workers"]} workers each, which `wrk` on the same cores loads in turns: one
row as JSON, {results["connections"]} connections, the smallest request there is. Each of {pace["rounds"]} pairs is {pace["seconds"]} s with and {pace["seconds"]} s
without, in alternating order. The cost is the median over the pairs of the share of requests per second that is lost,
and of how many more microseconds of the processor a request takes; intervals are the sign test's, which assumes nothing
but that pairs are independent. Below zero is faster, by chance.

{TABLE}{"".join(map(_line, results["costs"]))}
Without anything (`DIABOLO_METRICS=0`, `DIABOLO_LOG_LEVEL=error`) plain numbers and times are kept all the same, in
{results["always_us"]:.1f} us of a request. Lines went to a file, spans to a collector on loopback that did not read them. A
`DIABOLO_LOG_SHARE` of 0.01 saves nearly all of what lines cost.

{results["date"]}; {machine["cores"]} cores ({machine["cpu"]}), {machine["system"]}, Python {machine["python"]}, {machine["load"]}; {packages}.
The load average before it began was {results["load_before"]}: much above zero means that others had the cores as well.
"""  # noqa: E501


def _line(cost: dict[str, Any]) -> str:
    without, with_it = cost["without"], cost["with"]
    processor = cost["processor"]
    more = 1 / (1 - processor["cost"]) - 1, 1 / (1 - processor["low"]) - 1, 1 / (1 - processor["high"]) - 1
    cells = (
        cost["title"],
        _interval(*(cost["throughput"][part] for part in ("cost", "low", "high"))),
        "" if cost["goal"] is None else f"at most {100 * cost['goal']:.0f} %: {_state(cost)}",
        f"{_interval(*more)}, {without['cpu_us']:.0f} to {with_it['cpu_us']:.0f} us",
        _figure(without),
        _figure(with_it),
    )
    return f"| {' | '.join(cells)} |\n"


def _state(cost: dict[str, Any]) -> str:
    """Whether the goal holds, and whether that is certain."""
    found = cost["throughput"]
    if found["cost"] > cost["goal"]:
        return "**missed**" if found["low"] > cost["goal"] else "**missed**, but the interval reaches below"
    return "holds" if found["high"] <= cost["goal"] else "holds, but the interval reaches beyond"


def _interval(middle: float, low: float, high: float) -> str:
    return f"{100 * middle:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)"


def _figure(measured: dict[str, float]) -> str:
    return f"{measured['requests_per_second']:.0f}, {measured['p99_ms']:.1f} ms"
