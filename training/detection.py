"""How well scores tell anomalies from normal rows, where labels say which is which."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bundle.calibration import Floats

__all__ = ["Detection", "anomalous", "area_under_roc", "average_precision", "detection"]

RESAMPLES = 1000
Counts = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Two areas with the central 95 % of their bootstrap (Efron 1979; rows of each kind are drawn among themselves)."""

    normal_rows: int
    anomalous_rows: int
    auroc: float
    auroc_interval: tuple[float, float]
    average_precision: float
    average_precision_interval: tuple[float, float]


def anomalous(labels: Tensor | None) -> npt.NDArray[np.bool_] | None:
    """Which rows the labels (n,) mark as anomalies: those with 1, where 0 and 1 both occur and nothing else does. None
    where labels mean something else or are missing."""
    if labels is None or set(labels.tolist()) != {0, 1}:
        return None
    marked: npt.NDArray[np.bool_] = labels.numpy() == 1
    return marked


def detection(scores: Floats, marked: npt.NDArray[np.bool_], *, seed: int) -> Detection:
    """What `scores` (n,) do on rows of which `marked` (n,) says the anomalous ones; some are, and some are not."""
    # Rows of one score stand and fall together; all that counts is how many of each kind have it.
    _, group = np.unique(scores, return_inverse=True)
    size = int(group.max()) + 1
    kinds = [group[~marked], group[marked]]
    normal, strange = (np.bincount(kind, minlength=size).astype(np.float64) for kind in kinds)
    generator = np.random.default_rng(seed)
    areas = np.empty((RESAMPLES, 2))
    for i in range(RESAMPLES):
        drawn = [kind[generator.integers(0, len(kind), len(kind))] for kind in kinds]
        n, a = (np.bincount(kind, minlength=size).astype(np.float64) for kind in drawn)
        areas[i] = area_under_roc(n, a), average_precision(n, a)
    low, high = np.quantile(areas, [0.025, 0.975], axis=0)
    return Detection(
        normal_rows=len(kinds[0]),
        anomalous_rows=len(kinds[1]),
        auroc=area_under_roc(normal, strange),
        auroc_interval=(float(low[0]), float(high[0])),
        average_precision=average_precision(normal, strange),
        average_precision_interval=(float(low[1]), float(high[1])),
    )


def area_under_roc(normal: Counts, strange: Counts) -> float:
    """P(score of an anomaly > score of a normal row) + half the probability of a tie, from how many rows of each kind
    (m,) have each of m scores in rising order (Hanley & McNeil 1982)."""
    below = np.cumsum(normal) - normal / 2
    return float(below @ strange / (normal.sum() * strange.sum()))


def average_precision(normal: Counts, strange: Counts) -> float:
    """sum over scores s of (recall(s) - recall(above s)) * precision(s), of the same counts (m,), with all rows alarmed
    whose score is at least s."""
    hits, alarms = np.cumsum(strange[::-1]), np.cumsum((strange + normal)[::-1])
    return float((strange[::-1] / strange.sum()) @ (hits / np.maximum(alarms, 1)))
