"""The figures of a comparison, next to numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, spearmanr

from bundle.calibration import Calibration, Floats
from cli.comparison import Alphas, Judged, compare, rank_correlation

# 19 scores each, so that p-values are multiples of 1/20; B's are twice A's.
A = Calibration.fit(np.linspace(0.005, 0.185, 19, dtype=np.float32))
B = Calibration.fit(2 * A.scores)
SCORES = [0.0, 0.04, 0.0625, 0.16, 0.2025]  # p-values in A: 1, .8, .7, .2, .05; in B: 1, .9, .85, .6, .5
FIVE = Alphas(0.05, 0.05)
few = st.lists(st.integers(0, 9), min_size=2, max_size=30)


def floats(values: list[float] | list[int]) -> Floats:
    return np.array(values, dtype=np.float32)


def judged(calibration: Calibration, scores: list[float], errors: list[float] | None = None) -> Judged:
    return Judged(floats(scores), calibration, None if errors is None else floats(errors))


def test_p_values_are_compared_row_by_row_and_as_a_whole() -> None:
    found = compare(judged(A, SCORES), judged(B, SCORES), alphas=[], same_kind=True)
    assert found.rows == 5
    assert found.rank_correlation == pytest.approx(1)
    assert found.p_value_difference == pytest.approx(0.15)  # of 0, .1, .15, .4, .45
    assert found.p_value_distance == pytest.approx(0.4)  # at .2, where A has two of five rows and B none


def test_verdicts_that_flip_are_listed_for_both_directions() -> None:
    a, b = judged(A, SCORES), judged(B, SCORES[::-1])
    (at,) = compare(a, b, alphas=[Alphas(0.2, 0.5)], same_kind=True).verdicts
    assert (at.flagged_a, at.flagged_b) == (2, 1)
    assert (at.only_a, at.only_b) == ((3, 4), (0,))
    assert at.flips == pytest.approx(3 / 5)
    assert at.matching_alpha == pytest.approx(0.6)  # B's second smallest p-value


def test_the_shift_of_a_threshold_is_told_in_scores_and_as_an_alpha_of_b() -> None:
    (at,) = compare(judged(A, SCORES), judged(B, SCORES), alphas=[FIVE], same_kind=True).verdicts
    assert [at.threshold_a, at.threshold_b] == pytest.approx([0.185, 0.37])
    assert at.threshold_shift == pytest.approx(0.185)
    assert at.threshold_a_in_b == pytest.approx(11 / 20)  # ten of B's scores are above A's largest
    assert at.matching_alpha == pytest.approx(0.5)


def test_thresholds_of_scores_of_different_kinds_are_not_compared() -> None:
    (at,) = compare(judged(A, SCORES), judged(B, SCORES), alphas=[FIVE], same_kind=False).verdicts
    assert (at.threshold_shift, at.threshold_a_in_b) == (None, None)
    assert at.matching_alpha == pytest.approx(0.5)


def test_no_alpha_matches_where_a_flags_nothing() -> None:
    (at,) = compare(judged(A, [0.0]), judged(B, [0.0]), alphas=[FIVE], same_kind=True).verdicts
    assert (at.flagged_a, at.matching_alpha, at.flips) == (0, None, 0)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.5, 0.95])
def test_a_bundle_next_to_itself_differs_in_nothing(alpha: float) -> None:
    same = judged(A, SCORES, [0.5] * 5)
    found = compare(same, same, alphas=[Alphas(alpha, alpha)], same_kind=True)
    assert (found.p_value_distance, found.p_value_difference) == (0, 0)
    assert (found.reconstruction_error_a, found.reconstruction_error_b) == (0.5, 0.5)
    (at,) = found.verdicts
    assert (at.flips, at.only_a, at.only_b, at.threshold_shift) == (0, (), (), 0)
    assert at.threshold_a_in_b == pytest.approx(alpha)


def test_errors_are_means_and_missing_where_a_bundle_does_not_reconstruct() -> None:
    found = compare(judged(A, SCORES, SCORES), judged(B, SCORES), alphas=[], same_kind=True)
    assert found.reconstruction_error_a == pytest.approx(0.093)
    assert found.reconstruction_error_b is None


def test_equal_scores_share_the_mean_of_their_ranks() -> None:
    # Ranks 1 2 3 4 5 and 1 2 3.5 5 3.5: covariance 8 (times n), norms sqrt(10) and sqrt(9.5).
    assert rank_correlation(floats([1, 2, 3, 4, 5]), floats([5, 6, 7, 8, 7])) == pytest.approx(8 / np.sqrt(10 * 9.5))
    assert rank_correlation(floats([1, 2, 3]), floats([30, 20, 10])) == pytest.approx(-1)


@pytest.mark.parametrize("constant", [[7.0, 7.0, 7.0], [7.0]])
def test_constant_scores_have_no_rank_correlation(constant: list[float]) -> None:
    assert rank_correlation(floats(constant), floats(list(range(len(constant))))) is None


@settings(derandomize=True, deadline=None)
@given(few, few)
def test_the_figures_are_scipys(x: list[int], y: list[int]) -> None:
    count = min(len(x), len(y))
    x, y = x[:count], y[:count]
    rho = rank_correlation(floats(x), floats(y))
    assert (rho is None) == (len(set(x)) == 1 or len(set(y)) == 1)
    if rho is not None:
        assert rho == pytest.approx(spearmanr(x, y).statistic)
    tenths = Calibration.fit(floats([value + 0.5 for value in range(9)]))
    distance = compare(
        Judged(floats(x), tenths, None), Judged(floats(y), tenths, None), alphas=[], same_kind=True
    ).p_value_distance
    assert distance == pytest.approx(ks_2samp(x, y, method="asymp").statistic)
