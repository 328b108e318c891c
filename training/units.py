"""The units in which rows are trained on and judged, where their own say nothing about what is much."""

import torch
from torch import Tensor, nn

from training.moments import Moments

__all__ = ["Units", "units_of"]


class Units(nn.Module):
    """Every feature less its mean, in standard deviations. Without that, an error of a feature that is counted in
    millions would outweigh all others."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def inward(self, x: Tensor) -> Tensor:
        """Rows x (n, d) from input units into these."""
        return (x - self.mean) / self.deviation

    def outward(self, x: Tensor) -> Tensor:
        """Rows x (n, d) from these into input units."""
        return x * self.deviation + self.mean

    @property
    def magnitude(self) -> float:
        """The size that values of the largest feature have, in input units."""
        return float((self.mean.abs() + self.deviation).max())


def units_of(found: Moments) -> Units:
    """The units that rows of these moments give; a feature that never varies has the deviation 1."""
    deviation = torch.where(found.deviation > 0, found.deviation, 1.0)
    return Units(found.mean.float(), deviation.float())
