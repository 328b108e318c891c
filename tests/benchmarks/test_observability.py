"""What observing costs: how it is reckoned, and that the page says what was measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.observability.__main__ import as_json
from benchmarks.observability.measure import Cost, always_us, lost, median_interval
from benchmarks.observability.page import HEADING, section, write
from benchmarks.observability.variants import COMPARISONS, VARIANTS
from benchmarks.serving import Measured
from service.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(("count", "places"), [(6, (0, 5)), (8, (0, 7)), (9, (1, 7)), (12, (2, 9)), (15, (3, 11))])
def test_the_interval_is_that_of_the_sign_test(count: int, places: tuple[int, int]) -> None:
    """Places from tables of the sign test at 95 %, for example Conover (1999), A3: at 12, the third and the tenth."""
    values = [float(value) for value in range(count)]
    assert median_interval(values[::-1]) == tuple(map(float, places))


def test_too_few_pairs_have_no_interval() -> None:
    with pytest.raises(ValueError, match="5 values"):
        median_interval([1.0] * 5)


def test_what_is_lost_is_what_is_missing_from_one() -> None:
    assert lost([0.9, 0.95, 0.97, 0.98, 0.99, 1.1]) == pytest.approx((0.025, -0.1, 0.1))


def result(ratios: list[float]) -> dict[str, Any]:
    measured = Measured(1000.0, 2.0, 9.0)
    costs = [Cost(compared, measured, measured, 300.0, 310.0, ratios, ratios) for compared in COMPARISONS]
    return {
        "date": "2026-11-23",
        "variants": len(VARIANTS),
        "load_before": 0.1,
        "workers": 2,
        "connections": 16,
        "pace": {"rounds": len(ratios), "seconds": 2},
        "always_us": 3.21,
        "costs": [as_json(cost) for cost in costs],
        "machine": {"cpu": "a", "cores": 2, "system": "b", "python": "3", "load": "wrk", "packages": {"numpy": "2"}},
    }


@pytest.mark.parametrize(
    ("ratios", "state"),
    [
        ([0.99] * 6, "at most 5 %: holds |"),
        ([0.94] + [0.99] * 5, "holds, but the interval reaches beyond"),
        ([0.90] * 6, "**missed** |"),
        ([0.99] + [0.90] * 5, "**missed**, but the interval reaches below"),
    ],
)
def test_a_goal_holds_only_where_that_is_certain(ratios: list[float], state: str) -> None:
    assert state in section(result(ratios))


def test_the_end_of_the_page_is_written_anew_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / "observability.md").write_text(f"# Kept\n\n{HEADING}\n\nold\n")
    write(result([0.98] * 6), tmp_path)
    text = (tmp_path / "observability.md").read_text()
    assert text == "# Kept\n\n" + section(json.loads((tmp_path / "observability.json").read_text()))
    assert "2.0 % (2.0 to 2.0 %)" in text
    assert text.count(HEADING) == 1


def test_the_page_says_what_was_measured() -> None:
    text = (DOCS / "observability.md").read_text()
    assert text.partition(HEADING)[1] + text.partition(HEADING)[2] == section(
        json.loads((DOCS / "observability.json").read_text())
    )


def test_variants_set_what_there_is() -> None:
    for variables in VARIANTS.values():
        ours = {name.removeprefix("DIABOLO_").lower() for name in variables if name.startswith("DIABOLO_")}
        assert ours <= set(Settings.model_fields)
    assert {compared.variant for compared in COMPARISONS} | {"off"} == set(VARIANTS)


def test_what_is_counted_in_any_case_is_measured() -> None:
    assert 0 < always_us() < 10_000
