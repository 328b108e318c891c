"""The sparse autoencoder's objective with a penalty: every hidden unit is to be active as little as a target says."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from bundle.operations import Family
from training.networks import Architecture, Autoencoder
from training.objectives.reconstruction import Error, error_faults, reconstruction_loss

__all__ = ["SparsePenalty"]


@dataclass(frozen=True, kw_only=True)
class SparsePenalty:
    """L = 1/d ||x - decode(encode(x))||^2 + sum_l w_l 1/u_l sum_j D(rho, r_lj), the error averaged over rows; r_lj is
    the mean over rows of the magnitude of unit j in layer l, which has u_l units, rho the `target`, w_l the `weights`:
    one for each hidden layer of the encoder and, last, one for the code.

    - `kl`: D = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r)), for sigmoid units (Ng 2011, CS294A Lecture notes,
      "Sparse autoencoder", section 3, with the sum over units as their mean, so that weights do not depend on width);
    - `l1`: D = |r - rho|; with the target 0 it is the Laplacian prior of sparse coding (Olshausen & Field 1996);
    - `l2`: D = (r - rho)^2.

    L1 and L2 need weights that cannot grow while the units shrink: unit columns, or tied weights.
    """

    penalty: Literal["kl", "l1", "l2"]
    weights: tuple[float, ...]
    target: float
    error: Error = "squared"
    family: ClassVar = Family.SPARSE

    def loss(self, network: Autoencoder, x: Tensor, generator: Generator, *, progress: float = 1.0) -> Tensor:  # noqa: ARG002 (draws nothing, changes nothing)
        """The mean error of rows x (n, d) with the penalty, a scalar; r is taken over these n rows."""
        layers = network.activations(x)
        loss = reconstruction_loss(network, layers[-1], x, error=self.error)
        for weight, units in zip(self.weights, layers, strict=True):
            if weight > 0:
                loss = loss + weight * self.divergence(units.abs().mean(dim=0)).mean()
        return loss

    def divergence(self, activity: Tensor) -> Tensor:
        """D of every unit (u,) from its mean `activity` (u,)."""
        match self.penalty:
            case "l1":
                return (activity - self.target).abs()
            case "l2":
                return (activity - self.target).square()
            case "kl":
                # A sigmoid rounds to 0 and 1, where the divergence is infinite and has no gradient.
                r = activity.clamp(1e-6, 1 - 1e-6)
                rho = torch.full_like(r, self.target)
                return rho * (rho / r).log() + (1 - rho) * ((1 - rho) / (1 - r)).log()

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        found = error_faults(self.error)
        if self.penalty not in ("kl", "l1", "l2"):
            found.append(f"no penalty is called {self.penalty!r}; there are kl, l1 and l2")
        if not self.weights or min(self.weights) < 0 or max(self.weights) == 0:
            found.append("the weights of the penalty are not negative, and at least one lies above 0")
        if self.penalty == "kl" and not 0 < self.target < 1:
            found.append("the target of a KL penalty is a mean activation between 0 and 1")
        if self.penalty != "kl" and self.target < 0:
            found.append("the target of a penalty cannot be negative")
        return found

    def faults_with(self, architecture: Architecture) -> list[str]:
        """What does not go with the network, in words; empty when all does."""
        found = []
        layers = [architecture.activation] * len(architecture.hidden) + [architecture.code_activation]
        if len(self.weights) != len(layers):
            found.append(f"the penalty needs {len(layers)} weights, one for each hidden layer and one for the code")
        elif self.penalty == "kl":
            penalised = {units for weight, units in zip(self.weights, layers, strict=True) if weight > 0}
            if penalised - {"sigmoid"}:
                found.append("a KL penalty needs sigmoid units in every layer that it weighs")
        if self.penalty in ("l1", "l2") and not (architecture.unit_columns or architecture.tied):
            found.append(f"an {self.penalty.upper()} penalty needs unit columns or tied weights, or scaling escapes it")
        return found
