"""The plain autoencoder's objective: reconstruct what went in."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from bundle.operations import Family
from training.networks import Architecture, Autoencoder
from training.objectives.reconstruction import Error, error_faults, reconstruction_loss

__all__ = ["Vanilla"]


@dataclass(frozen=True, kw_only=True)
class Vanilla:
    """L(x) = 1/d ||x - decode(encode(x))||^2, averaged over rows (Hinton & Salakhutdinov 2006, Science 313), or the
    cross-entropy in its place. Any depth goes; a network that is nowhere narrower than a row can learn the identity,
    which this does not prevent."""

    error: Error = "squared"
    family: ClassVar = Family.VANILLA

    def loss(self, network: Autoencoder, x: Tensor, generator: Generator, *, progress: float = 1.0) -> Tensor:  # noqa: ARG002 (draws nothing, changes nothing)
        """The mean error of rows x (n, d), a scalar: in squared input units, or in nats for each element."""
        return reconstruction_loss(network, network.encode(x), x, error=self.error)

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        return error_faults(self.error)

    def faults_with(self, architecture: Architecture) -> list[str]:  # noqa: ARG002 (takes any)
        """What does not go with the network, in words: all does."""
        return []
