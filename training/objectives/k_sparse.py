"""The k-sparse autoencoder's objective: reconstruct from the few largest values of the code."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from bundle.operations import Family
from training.layers import TopK, top_k
from training.networks import Architecture, Autoencoder
from training.objectives.reconstruction import Error, error_faults, reconstruction_loss

__all__ = ["KSparse"]


@dataclass(frozen=True, kw_only=True)
class KSparse:
    """L(x) = 1/d ||x - decode(top_k(encode(x)))||^2, or the cross-entropy in its place, averaged over rows, where top_k
    keeps the k values of largest magnitude and sets the others to 0 (Makhzani & Frey 2013, section 2.1). The selection
    is the network's (`top_k`), so `encode` gives sparse codes wherever the network goes; gradients reach the encoder
    through what was kept alone.

    Units that are never kept never learn. Over the first `warm_up` share of the steps k therefore falls on a line from
    all values of the code (ibid., "Scheduling of the sparsity level").
    """

    warm_up: float = 0.5
    error: Error = "squared"
    family: ClassVar = Family.SPARSE

    def loss(self, network: Autoencoder, x: Tensor, generator: Generator, *, progress: float = 1.0) -> Tensor:  # noqa: ARG002 (draws nothing)
        """The mean error of rows x (n, d), a scalar: in squared input units, or in nats for each element."""
        if not isinstance(network.keep, TopK):
            raise TypeError("the k-sparse objective needs a network with top_k")
        dense = network.dense(x)
        kept = top_k(dense, self._k_at(progress, last=network.keep.k, first=dense.shape[1]))
        return reconstruction_loss(network, kept, x, error=self.error)

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        found = error_faults(self.error)
        if not 0 <= self.warm_up <= 1:
            found.append("the warm-up is a share of the training, between 0 and 1")
        return found

    def faults_with(self, architecture: Architecture) -> list[str]:
        """What does not go with the network, in words; empty when all does."""
        return [] if architecture.top_k is not None else ["a k-sparse autoencoder needs a network with top_k"]

    def _k_at(self, progress: float, *, first: int, last: int) -> int:
        return last if progress >= self.warm_up else round(first + (last - first) * progress / self.warm_up)
