"""What one bundle says of rows next to what another says of the same: figures that need no torch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bundle.calibration import Calibration, Floats

__all__ = ["Alphas", "Comparison", "Judged", "Verdicts", "compare", "rank_correlation"]

Numbers = npt.NDArray[np.float64]


class Judged(NamedTuple):
    """What a bundle says of n rows: scores (n,), its calibration, and the mean squared error of each row (n,), None
    where it does not reconstruct."""

    scores: Floats
    calibration: Calibration
    errors: Floats | None


class Alphas(NamedTuple):
    """The share of normal rows that A and B may flag. They differ only where a small calibration set is too coarse for
    the default."""

    a: float
    b: float


class Verdicts(NamedTuple):
    """Who flags what at these alphas; rows are counted from 0.

    `threshold_shift` is B's threshold less A's, and `threshold_a_in_b` the p-value that B's calibration gives to the
    lowest score above A's threshold: alpha where nothing has shifted. Both are None for scores of different kinds.
    `matching_alpha` is the alpha at which B flags at least as many of the rows as A does; None where A flags none.
    """

    alphas: Alphas
    flagged_a: int
    flagged_b: int
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    flips: float
    threshold_a: float
    threshold_b: float
    threshold_shift: float | None
    threshold_a_in_b: float | None
    matching_alpha: float | None


class Comparison(NamedTuple):
    """Two bundles on the same rows.

    `rank_correlation` is Spearman's, None where one of them gives all rows the same score. `p_value_distance` is
    Kolmogorov's and Smirnov's, the largest difference between the shares of rows with a p-value of at most x;
    `p_value_difference` is the median of the rows' absolute differences. Errors are means over rows, in squared input
    units.
    """

    rows: int
    rank_correlation: float | None
    p_value_distance: float
    p_value_difference: float
    reconstruction_error_a: float | None
    reconstruction_error_b: float | None
    verdicts: tuple[Verdicts, ...]


def compare(a: Judged, b: Judged, *, alphas: Sequence[Alphas], same_kind: bool) -> Comparison:
    """The figures, with verdicts at each of `alphas`. `same_kind`: the scores are of one kind, so that a threshold of
    one means something to the other. Raises ValueError for an alpha that a calibration cannot resolve."""
    p_a, p_b = a.calibration.p_values(a.scores), b.calibration.p_values(b.scores)
    return Comparison(
        rows=len(a.scores),
        rank_correlation=rank_correlation(a.scores, b.scores),
        p_value_distance=_distance(p_a, p_b),
        p_value_difference=float(np.median(np.abs(p_a - p_b))),
        reconstruction_error_a=None if a.errors is None else float(a.errors.mean(dtype=np.float64)),
        reconstruction_error_b=None if b.errors is None else float(b.errors.mean(dtype=np.float64)),
        verdicts=tuple(_verdicts(a.calibration, b.calibration, p_a, p_b, at, same_kind=same_kind) for at in alphas),
    )


def rank_correlation(x: Floats, y: Floats) -> float | None:
    """Spearman's rho of two arrays of shape (n,): Pearson's correlation of the ranks, equal values sharing the mean of
    theirs. None where either array is constant."""
    ranks_x, ranks_y = _ranks(x), _ranks(y)
    norm = float(np.linalg.norm(ranks_x) * np.linalg.norm(ranks_y))
    return float(np.clip(ranks_x @ ranks_y / norm, -1, 1)) if norm > 0 else None


def _ranks(values: Floats) -> Numbers:
    """Ranks less their mean, float64 (n,)."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(count) - (count - 1) / 2
    return np.asarray(mean_rank[place] - (len(values) + 1) / 2)


def _distance(x: Numbers, y: Numbers) -> float:
    x, y = np.sort(x), np.sort(y)
    both = np.concatenate([x, y])
    shares = [np.searchsorted(one, both, side="right") / len(one) for one in (x, y)]
    return float(np.abs(shares[0] - shares[1]).max())


def _verdicts(a: Calibration, b: Calibration, p_a: Numbers, p_b: Numbers, at: Alphas, *, same_kind: bool) -> Verdicts:
    threshold_a, threshold_b = a.threshold(at.a), b.threshold(at.b)
    flagged_a, flagged_b = p_a <= at.a, p_b <= at.b
    count = int(flagged_a.sum())
    above = np.nextafter(threshold_a, np.float32(np.inf), dtype=np.float32)
    return Verdicts(
        alphas=at,
        flagged_a=count,
        flagged_b=int(flagged_b.sum()),
        only_a=tuple((flagged_a & ~flagged_b).nonzero()[0].tolist()),
        only_b=tuple((flagged_b & ~flagged_a).nonzero()[0].tolist()),
        flips=float((flagged_a != flagged_b).mean()),
        threshold_a=float(threshold_a),
        threshold_b=float(threshold_b),
        threshold_shift=float(threshold_b) - float(threshold_a) if same_kind else None,
        threshold_a_in_b=float(b.p_values(np.array([above]))[0]) if same_kind else None,
        matching_alpha=float(np.partition(p_b, count - 1)[count - 1]) if count else None,
    )
