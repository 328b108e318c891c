"""Conformal calibration: scores of held-out normal rows -> p-values and thresholds.

With n calibration scores exchangeable with a new normal row's score s, the conformal p-value

    p(s) = (1 + #{calibration >= s}) / (n + 1)

satisfies P(p <= alpha) <= alpha for every alpha (Vovk et al. 2005, "Algorithmic Learning in a Random World",
prop. 2.8; Bates et al. 2023, "Testing for outliers with conformal p-values", eq. 3). This is the only place that
does threshold arithmetic.
"""

import io
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from bundle.errors import CalibrationInvalid

__all__ = ["Calibration", "Floats"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Sorted calibration scores: float32, shape (n,), ascending, finite."""

    scores: Floats

    def __post_init__(self) -> None:
        scores = self.scores
        if scores.ndim != 1 or scores.dtype != np.float32 or scores.size == 0:
            raise CalibrationInvalid("calibration scores must be a one-dimensional, non-empty float32 array")
        if not np.isfinite(scores).all() or (np.diff(scores) < 0).any():
            raise CalibrationInvalid("calibration scores must be finite and ascending")
        scores.flags.writeable = False

    @classmethod
    def fit(cls, scores: Floats) -> Self:
        """The calibration that these held-out scores, shape (n,), in any order, give. Raises CalibrationInvalid."""
        return cls(np.sort(np.asarray(scores, dtype=np.float32)))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The calibration in the bytes of calibration.npy. Raises CalibrationInvalid."""
        try:
            scores = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        except Exception as error:  # of hostile bytes numpy's parser says ValueError, MemoryError, TokenError and more
            raise CalibrationInvalid(f"calibration.npy cannot be read: {error}") from error
        return cls(scores)

    def to_bytes(self) -> bytes:
        """The bytes of calibration.npy."""
        buffer = io.BytesIO()
        np.save(buffer, self.scores, allow_pickle=False)
        return buffer.getvalue()

    @property
    def size(self) -> int:
        """n, the number of calibration scores."""
        return int(self.scores.size)

    @property
    def smallest_p_value(self) -> float:
        """1 / (n + 1): no row can have a smaller p-value, so no smaller alpha can ever raise an alarm."""
        return 1 / (self.size + 1)

    def p_values(self, scores: Floats) -> npt.NDArray[np.float64]:
        """Conformal p-values, shape (m,), each in [1 / (n + 1), 1], of scores of shape (m,)."""
        at_least = self.size - np.searchsorted(self.scores, scores, side="left")
        return (1 + at_least) / (self.size + 1)

    def threshold(self, alpha: float) -> np.float32:
        """The l-th largest calibration score, l = floor(alpha (n + 1)).

        `score > threshold(alpha)` if and only if `p_value <= alpha`, ties included. Raises ValueError when alpha
        lies outside [1 / (n + 1), 1).
        """
        if not self.smallest_p_value <= alpha < 1:
            raise ValueError(f"alpha must lie in [1/{self.size + 1}, 1), where {self.size} is the calibration size")
        # alpha * (n + 1) slips in floating point (0.29 * 100 < 29), p-values are single divisions and do not:
        # l is the largest number of ranks whose p-value is within alpha.
        ranks = math.floor(alpha * (self.size + 1))
        while (ranks + 1) / (self.size + 1) <= alpha:
            ranks += 1
        while ranks / (self.size + 1) > alpha:
            ranks -= 1
        return np.float32(self.scores[self.size - ranks])
