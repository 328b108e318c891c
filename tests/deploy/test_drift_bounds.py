"""How often the rules on drift cry wolf, computed exactly. Of n calibration rows the share of like rows whose p-value
is at most e is drawn from a beta distribution once and for all, and of N rows so many have such a p-value as a binomial
draws with that share."""

import math
import re

import pytest
from scipy.stats import betabinom

from service.engine.tally import P_EDGES
from tests.deploy.expressions import rules

RULES = {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules()}
LEAST_ROWS = 500
CALIBRATIONS, WINDOWS = (1000, 4000, 20_000), (LEAST_ROWS, 3000, 20_000)
SIZES = [(n, rows) for n in CALIBRATIONS for rows in WINDOWS]


def spread(n: int, rows: int) -> float:
    """As `diabolo:p_value:spread` has it."""
    return math.sqrt(1 / rows + 1 / n)


def chance(edge: float, *, above: float, below: float = 0.0, n: int, rows: int) -> float:
    """The chance that the share of p-values at or below the edge is over `above`, or under `below`, with no drift."""
    rank = math.floor(edge * (n + 1) + 1e-9)
    if not rank:
        return 0.0
    count = betabinom(rows, rank, n + 1 - rank)
    return float(count.sf(math.floor(above * rows + 1e-9)) + count.cdf(math.ceil(below * rows - 1e-9) - 1))


def factor(alert: str, before: str) -> float:
    """The number that comes before this in the alert's expression."""
    found = re.search(rf"([\d.]+) \* {re.escape(before)}", RULES[alert])
    assert found is not None, RULES[alert]
    return float(found.group(1))


@pytest.mark.parametrize(("n", "rows"), SIZES)
def test_a_full_tail_is_chance_once_in_50000_windows(n: int, rows: int) -> None:
    bound = 0.05 + factor("DiaboloTailDrift", "(0.05 * 0.95) ^ 0.5") * math.sqrt(0.05 * 0.95) * spread(n, rows)
    assert chance(0.05, above=bound, n=n, rows=rows) < 1 / 50_000


@pytest.mark.parametrize(("n", "rows"), SIZES)
def test_many_anomalies_are_chance_once_in_a_million_windows(n: int, rows: int) -> None:
    z = factor("DiaboloManyAnomalies", "(0.01 * 0.99) ^ 0.5")
    bound = max(0.05, 0.01 + z * math.sqrt(0.01 * 0.99) * spread(n, rows))
    assert chance(0.01, above=bound, n=n, rows=rows) < 1e-6


@pytest.mark.parametrize(("n", "rows"), SIZES)
def test_a_distance_is_chance_once_in_five_million_windows(n: int, rows: int) -> None:
    bound = factor("DiaboloDrift", "diabolo:p_value:spread") * spread(n, rows)
    assert sum(chance(edge, above=edge + bound, below=edge - bound, n=n, rows=rows) for edge in P_EDGES[:-1]) < 2e-7


def test_the_distance_is_taken_over_all_edges_and_few_rows_say_nothing() -> None:
    edges = [float(edge) for edge in re.findall(r'le="([\d.]+)"', RULES["diabolo:p_value:distance"])]
    subtracted = [float(edge) for edge in re.findall(r"\} - ([\d.]+)\)", RULES["diabolo:p_value:distance"])]
    assert edges == subtracted == list(P_EDGES[:-1])
    assert all(f">= {LEAST_ROWS}" in RULES[f"diabolo:p_value:{what}"] for what in ("share", "spread"))
