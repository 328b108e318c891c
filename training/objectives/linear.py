"""The linear autoencoder's objective: principal components, found by descent."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from bundle.operations import Family
from training.networks import Architecture, Autoencoder
from training.objectives.reconstruction import reconstruction_loss

__all__ = ["Linear"]


@dataclass(frozen=True, kw_only=True)
class Linear:
    """L(x) = 1/d ||x - (V W x + c)||^2, averaged over rows, W (k, d) and V (d, k): every minimum has V W the projection
    on the k leading principal components, and there is no other local one (Baldi & Hornik 1989, Neural Networks 2)."""

    family: ClassVar = Family.LINEAR

    def loss(self, network: Autoencoder, x: Tensor, generator: Generator, *, progress: float = 1.0) -> Tensor:  # noqa: ARG002 (draws nothing, changes nothing)
        """The mean squared error, a scalar in squared input units, of rows x (n, d)."""
        return reconstruction_loss(network, network.encode(x), x, error="squared")

    def faults(self) -> list[str]:
        """What contradicts itself, in words: nothing can."""
        return []

    def faults_with(self, architecture: Architecture) -> list[str]:
        """What does not go with the network, in words; empty when all does."""
        straight = (
            architecture.kind == "mlp"
            and not architecture.hidden
            and architecture.output == "linear"
            and architecture.code_activation == "linear"
            and architecture.top_k is None
        )
        return [] if straight else ["a linear autoencoder has no hidden layer, a linear code and a linear output"]
