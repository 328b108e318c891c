"""The plain autoencoder's objective: reconstruct what went in."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from bundle.operations import Family
from training.networks import Autoencoder

__all__ = ["Vanilla"]


@dataclass(frozen=True, kw_only=True)
class Vanilla:
    """L(x) = 1/d ||x - decode(encode(x))||^2, averaged over rows (Hinton & Salakhutdinov 2006, Science 313)."""

    family: ClassVar = Family.VANILLA

    def loss(self, network: Autoencoder, x: Tensor, generator: Generator) -> Tensor:  # noqa: ARG002 (draws nothing)
        """The mean squared error, a scalar in squared input units, of rows x (n, d)."""
        return (network.reconstruct(x) - x).square().mean()

    def faults(self) -> list[str]:
        """What contradicts itself, in words: nothing can."""
        return []
