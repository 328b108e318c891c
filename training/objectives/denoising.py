"""The denoising autoencoder's objective: reconstruct the clean row from a corrupted one."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from bundle.operations import Family
from training.corruption import Corruption
from training.networks import Autoencoder

__all__ = ["Denoising"]


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """L(x) = E_{x~ from q(x~ | x)} 1/d ||x - decode(encode(x~))||^2, averaged over rows, one draw of x~ for each
    (Vincent et al. 2010, JMLR 11, equation 9). The corruption keeps to the data's declared range, if there is one."""

    corruption: Corruption
    family: ClassVar = Family.DENOISING

    def loss(self, network: Autoencoder, x: Tensor, generator: Generator) -> Tensor:
        """The mean squared error against the clean rows x (n, d), a scalar in squared input units."""
        return (network.reconstruct(self.corruption(x, generator, bounds=network.range)) - x).square().mean()

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        return self.corruption.faults()
