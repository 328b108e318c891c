"""Conformal arithmetic against exact fractions, and against the law that it promises."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bundle.calibration import Calibration, Floats
from bundle.errors import CalibrationInvalid

# A few coarse values give many ties; the rest of float32 gives extremes, subnormals and both zeros.
SCORES = st.lists(
    st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0, 1.5]) | st.floats(width=32, allow_nan=False, allow_infinity=False),
    min_size=1,
    max_size=60,
)
NEW_SCORES = st.lists(st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, 0.5, 1.0]), max_size=20)


def floats(values: list[float]) -> Floats:
    return np.array(values, dtype=np.float32)


@st.composite
def alphas(draw: st.DrawFn, n: int) -> float:
    """Any alpha in [1 / (n + 1), 1): a multiple of 1 / (n + 1) or the number beside one, a decimal as people
    write it, or any number."""
    multiple = st.integers(1, n).map(lambda rank: rank / (n + 1))
    neighbour = st.builds(math.nextafter, multiple, st.sampled_from([0.0, 1.0]))
    decimal = st.integers(1, 999).map(lambda thousandths: thousandths / 1000)
    anything = st.floats(1 / (n + 1), 1, exclude_max=True)
    alpha = draw(multiple | neighbour | decimal | anything)
    assume(1 / (n + 1) <= alpha < 1)
    return alpha


@given(st.data(), SCORES, NEW_SCORES)
def test_above_the_threshold_if_and_only_if_the_p_value_is_within_alpha(
    data: st.DataObject, held_out: list[float], new: list[float]
) -> None:
    calibration = Calibration.fit(floats(held_out))
    alpha = data.draw(alphas(calibration.size))
    scores = floats([*new, *held_out])
    above = scores > calibration.threshold(alpha)
    np.testing.assert_array_equal(above, calibration.p_values(scores) <= alpha)


@given(SCORES, NEW_SCORES)
def test_p_values_are_the_conformal_fractions(held_out: list[float], new: list[float]) -> None:
    calibration = Calibration.fit(floats(held_out))
    scores = floats([*new, *held_out])
    n = len(held_out)
    exact = [Fraction(1 + sum(c >= s for c in floats(held_out)), n + 1) for s in scores]
    p_values = calibration.p_values(scores)
    assert p_values.tolist() == [float(fraction) for fraction in exact]
    assert all(calibration.smallest_p_value <= p <= 1 for p in p_values)


@given(st.integers(2, 3000), st.data())
def test_the_threshold_has_the_rank_that_exact_arithmetic_gives(n: int, data: st.DataObject) -> None:
    """At alpha = m / (n + 1) it is the m-th largest score and just below the one after, whatever floating point makes
    of alpha (n + 1)."""
    rank = data.draw(st.integers(2, n))
    calibration = Calibration(np.arange(1, n + 1, dtype=np.float32))
    assert calibration.threshold(rank / (n + 1)) == n + 1 - rank
    assert calibration.threshold(math.nextafter(rank / (n + 1), 0)) == n + 2 - rank


@pytest.mark.parametrize("n", [9, 99, 999, 1999])
def test_decimal_alphas_do_not_slip(n: int) -> None:
    """0.29 * 100 is 28.999999999999996 in floating point, and the 29th largest score is still the threshold."""
    calibration = Calibration(np.arange(1, n + 1, dtype=np.float32))
    for hundredths in range(1, 100):
        alpha = f"0.{hundredths:02}"
        rank = math.floor(Fraction(alpha) * (n + 1))
        if rank >= 1:
            assert calibration.threshold(float(alpha)) == n + 1 - rank, alpha


@given(SCORES, st.floats() | st.sampled_from([0.0, 1.0, math.nextafter(1, 2), 1e-9]))
def test_an_alpha_that_no_row_can_reach_is_refused(held_out: list[float], alpha: float) -> None:
    calibration = Calibration.fit(floats(held_out))
    assume(not 1 / (len(held_out) + 1) <= alpha < 1)
    with pytest.raises(ValueError, match=rf"alpha must lie in \[1/{len(held_out) + 1}, 1\)"):
        calibration.threshold(alpha)


@given(SCORES)
def test_bytes_hold_the_calibration_exactly(held_out: list[float]) -> None:
    calibration = Calibration.fit(floats(held_out))
    again = Calibration.from_bytes(calibration.to_bytes())
    assert again.scores.tobytes() == calibration.scores.tobytes()
    assert again.to_bytes() == calibration.to_bytes()


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.105, 0.5])
def test_the_false_positive_rate_on_exchangeable_rows_is_the_exact_one(alpha: float) -> None:
    """P(p <= alpha) = floor(alpha (n + 1)) / (n + 1) when no scores are tied."""
    n, rows, splits = 99, 200, 1500
    generator = np.random.default_rng(20260101)
    rates = []
    for _ in range(splits):
        scores = generator.standard_normal(n + rows).astype(np.float32)
        calibration = Calibration.fit(scores[:n])
        rates.append(np.mean(calibration.p_values(scores[n:]) <= alpha))
    rank = math.floor(Fraction(str(alpha)) * (n + 1))
    expected = rank / (n + 1)
    # Given the calibration scores, the rate is Beta(l, n + 1 - l) (Vovk 2012, "Conditional validity of inductive
    # conformal predictors", prop. 2a), and a finite test set adds at most a binomial variance. Five standard
    # deviations of the mean over all splits: a correct law fails for one seed in about two million.
    beta_variance = rank * (n + 1 - rank) / ((n + 1) ** 2 * (n + 2))
    tolerance = 5 * math.sqrt((beta_variance + expected * (1 - expected) / rows) / splits)
    assert abs(np.mean(rates) - expected) < tolerance
    # The test can tell a rank that is off by one.
    assert tolerance < 1 / (n + 1)


def test_ties_never_raise_more_alarms_than_promised() -> None:
    generator = np.random.default_rng(1)
    rates = []
    for _ in range(500):
        scores = generator.integers(0, 5, 99 + 200).astype(np.float32)
        rates.append(np.mean(Calibration.fit(scores[:99]).p_values(scores[99:]) <= 0.3))
    assert np.mean(rates) <= 0.3


def test_fitting_takes_scores_in_any_order_and_leaves_them_alone() -> None:
    scores = floats([3, 1, 2])
    assert Calibration.fit(scores).scores.tolist() == [1, 2, 3]
    assert scores.tolist() == [3, 1, 2]
    assert scores.flags.writeable


def test_the_scores_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Calibration.fit(floats([1, 2])).scores[0] = 5


@pytest.mark.parametrize(
    "scores",
    [floats([]), floats([1, math.nan]), floats([1, math.inf]), np.ones((2, 2), np.float32)],
    ids=["none", "NaN", "infinite", "two-dimensional"],
)
def test_scores_that_cannot_calibrate_are_refused(scores: Floats) -> None:
    with pytest.raises(CalibrationInvalid):
        Calibration.fit(scores)
