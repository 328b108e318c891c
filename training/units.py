"""The units in which rows are trained on and judged, where their own say little about what is much."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from training.moments import Moments

__all__ = ["Powers", "StandardDeviations", "Units"]


class Units(nn.Module, ABC):
    """A row-wise way from input units into others, and back, that becomes part of the exported program."""

    @abstractmethod
    def inward(self, x: Tensor) -> Tensor:
        """Rows x (n, d) from input units into these."""

    @abstractmethod
    def outward(self, x: Tensor) -> Tensor:
        """Rows x (n, d) from these into input units."""

    @property
    @abstractmethod
    def magnitude(self) -> float:
        """The size, in input units, of an error of 1 in these where it is largest."""


class StandardDeviations(Units):
    """Every feature less its mean, in standard deviations, 1 for a feature that never varies. Without that, an error of
    a feature that is counted in millions would outweigh all others."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, found: Moments) -> None:
        super().__init__()
        self.register_buffer("mean", found.mean.float())
        self.register_buffer("deviation", torch.where(found.deviation > 0, found.deviation, 1.0).float())

    def inward(self, x: Tensor) -> Tensor:
        """See Units."""
        return (x - self.mean) / self.deviation

    def outward(self, x: Tensor) -> Tensor:
        """See Units."""
        return x * self.deviation + self.mean

    @property
    def magnitude(self) -> float:
        """The size that values of the largest feature have, in input units."""
        return float((self.mean.abs() + self.deviation).max())


class Powers(Units):
    """Values of a declared range, mapped onto [0, 1] and then to the power of `exponent`. Below 1 it makes weak values
    count more: outlines remain, brightness matters less. What lies below the range keeps its sign."""

    def __init__(self, exponent: float, *, range: tuple[float, float]) -> None:
        super().__init__()
        self.exponent = exponent
        self.low, self.high = range

    def inward(self, x: Tensor) -> Tensor:
        """See Units."""
        return _signed_power((x - self.low) / (self.high - self.low), self.exponent)

    def outward(self, x: Tensor) -> Tensor:
        """See Units."""
        return self.low + (self.high - self.low) * _signed_power(x, 1 / self.exponent)

    @property
    def magnitude(self) -> float:
        """See Units."""
        return max(1.0, (self.high - self.low) / self.exponent)


def _signed_power(x: Tensor, exponent: float) -> Tensor:
    return x.sign() * x.abs().pow(exponent)
