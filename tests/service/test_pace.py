"""How long a pass takes by what recent ones and the measurement at load tell: a fixed part, and one for each row."""

import random
from collections.abc import Callable, Mapping

import pytest

from service.engine.pace import Pace

SIZES = (1, 4, 16, 64, 256)
Seconds = Callable[[int], float]


def fixed(_: int) -> float:
    """As a GPU takes, for few rows."""
    return 0.005


def by_rows(rows: int) -> float:
    """As a slow program takes on a CPU."""
    return 0.001 * rows


def both(rows: int) -> float:
    """As most take."""
    return 0.005 + 0.0002 * rows


def measured(seconds: Seconds) -> Mapping[int, float]:
    return {rows: seconds(rows) for rows in SIZES}


def after(pace: Pace, seconds: Seconds, *passes: int) -> Pace:
    """The same, once these passes have taken so long."""
    for rows in passes:
        pace.observe(rows, seconds(rows))
    return pace


@pytest.mark.parametrize("seconds", [fixed, by_rows, both])
def test_passes_of_different_sizes_tell_how_long_any_takes(seconds: Seconds) -> None:
    pace = after(Pace(), seconds, *(1, 256, 4, 64) * 10)
    expected = [seconds(rows) for rows in SIZES]
    assert [pace.seconds(rows) for rows in SIZES] == pytest.approx(expected, rel=0.01, abs=0.0002)


@pytest.mark.parametrize("seconds", [fixed, by_rows, both])
def test_after_single_rows_alone_large_batches_take_what_was_measured(seconds: Seconds) -> None:
    pace = after(Pace(measured(seconds)), seconds, *(1,) * 1000)
    assert [pace.seconds(rows) for rows in SIZES] == pytest.approx([seconds(rows) for rows in SIZES])


@pytest.mark.parametrize("seconds", [fixed, by_rows, both])
def test_a_machine_that_has_become_slow_is_slow_at_every_size(seconds: Seconds) -> None:
    pace = after(Pace(measured(seconds)), lambda rows: 3 * seconds(rows), *(1,) * 30)
    assert [pace.seconds(rows) for rows in SIZES] == pytest.approx([3 * seconds(rows) for rows in SIZES], rel=0.01)


def test_where_nothing_was_measured_a_large_batch_is_tried_and_one_pass_is_enough_to_know() -> None:
    pace = after(Pace(), by_rows, *(1,) * 30)
    assert pace.seconds(256) == pytest.approx(by_rows(1))
    after(pace, by_rows, 256)
    assert pace.seconds(256) == pytest.approx(by_rows(256), rel=0.01)
    assert pace.seconds(1) == pytest.approx(by_rows(1), abs=0.0002)


def test_a_wrong_measurement_is_put_right_by_passes_and_a_time_of_slowness_is_forgotten() -> None:
    pace = after(Pace(measured(by_rows)), fixed, *(1, 256) * 10)
    assert pace.seconds(256) == pytest.approx(fixed(256), rel=0.1)
    pace = after(Pace(measured(fixed)), lambda rows: 0.01 * rows, *(256, 1) * 10)
    assert pace.seconds(256) > 2
    after(pace, fixed, *(1,) * 100)
    assert pace.seconds(256) == pytest.approx(fixed(256), rel=0.1), "nobody has tried a large batch since"


def test_a_pass_that_was_held_up_counts_as_twice_as_long_as_it_may_be_and_ten_that_were_count() -> None:
    pace = after(Pace(), fixed, *(1,) * 30)
    pace.observe(1, 30.0)
    assert pace.seconds(1) == pytest.approx(1.2 * fixed(1))
    for _ in range(20):
        pace.observe(1, 0.05)
    assert pace.seconds(1) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("seconds", [fixed, by_rows, both])
def test_noise_moves_no_estimate_by_more_than_itself(seconds: Seconds) -> None:
    draw = random.Random(0)
    pace = Pace(measured(seconds))
    for sizes in ((1,), (64,), SIZES, (1, 256), (1, 2)):
        for _ in range(500):
            rows = draw.choice(sizes)
            pace.observe(rows, seconds(rows) * draw.uniform(0.7, 1.3))
            assert 0 <= pace.seconds(0) <= pace.seconds(256)
        for rows in sizes:
            assert 0.6 * seconds(rows) < pace.seconds(rows) + 0.1 * seconds(max(sizes))
            assert pace.seconds(rows) < 1.4 * seconds(rows) + 0.1 * seconds(max(sizes))


def test_before_the_first_pass_and_for_no_rows_and_no_time_it_has_an_answer() -> None:
    assert Pace().seconds(256) == 0
    pace = after(Pace({}), lambda _: 0.0, 0, 0, 1)
    assert pace.seconds(256) == 0
    after(pace, fixed, 0, 0)
    assert pace.seconds(0) == pytest.approx(fixed(0))
    assert Pace({1: 0.005, 4: 0.004}).seconds(256) == 0.005, "a row never takes less than no time"


def test_many_rows_take_as_long_as_their_passes() -> None:
    pace = Pace(measured(both))
    assert pace.seconds_in_batches(600, most=256) == pytest.approx(2 * both(256) + both(88))
    assert pace.seconds_in_batches(512, most=256) == pytest.approx(2 * both(256))
    assert pace.seconds_in_batches(0, most=256) == 0
