"""Mean, deviation and extremes of every feature, in one pass that never holds all rows."""

from typing import NamedTuple

import torch
from torch import Tensor

from training.rows import Features, chunks

__all__ = ["Moments", "moments"]


class Moments(NamedTuple):
    """Of each of d features over the rows: float64 (d,), in the rows' units. The deviation is the population's."""

    mean: Tensor
    deviation: Tensor
    minimum: Tensor
    maximum: Tensor


def moments(features: Features) -> Moments:
    """The moments of rows (n, d), n > 0, by pairwise updating (Chan, Golub & LeVeque 1983, The American Statistician
    37, equation 2.1), which loses no digits where a mean is far from 0."""
    size = features.shape[1]
    count, mean, squares = 0, torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    minimum, maximum = torch.full_like(mean, torch.inf), torch.full_like(mean, -torch.inf)
    for x in chunks(features):
        part = x.double()
        part_mean = part.mean(dim=0)
        step, total = part_mean - mean, count + len(part)
        squares += (part - part_mean).square().sum(dim=0) + step.square() * (count * len(part) / total)
        mean += step * (len(part) / total)
        minimum, maximum = minimum.minimum(part.amin(dim=0)), maximum.maximum(part.amax(dim=0))
        count = total
    return Moments(mean, (squares / count).sqrt(), minimum, maximum)
