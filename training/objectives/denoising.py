"""The denoising autoencoder's objective: reconstruct the clean row from a corrupted one."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from bundle.operations import Family
from training.corruption import Corruption, Mixture
from training.networks import Architecture, Autoencoder
from training.objectives.reconstruction import Error, error_faults, reconstruction_loss

__all__ = ["Denoising"]


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """L(x) = E_{x~ from q(x~ | x)} 1/d ||x - decode(encode(x~))||^2, or the cross-entropy in its place, averaged over
    rows, one draw of x~ for each (Vincent et al. 2010, JMLR 11, equation 9). The corruption keeps to the data's
    declared range, if there is one."""

    corruption: Corruption | Mixture
    error: Error = "squared"
    family: ClassVar = Family.DENOISING

    def loss(self, network: Autoencoder, x: Tensor, generator: Generator, *, progress: float = 1.0) -> Tensor:  # noqa: ARG002 (changes nothing)
        """The mean error against the clean rows x (n, d), a scalar: in squared input units, or in nats for each
        element."""
        corrupted = self.corruption(x, generator, bounds=network.range)
        return reconstruction_loss(network, network.encode(corrupted), x, error=self.error)

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        return [*self.corruption.faults(), *error_faults(self.error)]

    def faults_with(self, architecture: Architecture) -> list[str]:  # noqa: ARG002 (takes any)
        """What does not go with the network, in words: all does."""
        return []
