"""The contractive autoencoder's objective: codes that hardly change when the row does."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor, nn

from bundle.operations import Family
from training.networks import Architecture, Autoencoder
from training.objectives.reconstruction import Error, error_faults, reconstruction_loss

__all__ = ["Contractive", "closed_form", "estimated", "exact"]


@dataclass(frozen=True, kw_only=True)
class Contractive:
    """L(x) = 1/d ||x - decode(encode(x))||^2 + weight ||J(x)||_F^2, or the cross-entropy in place of the first term,
    averaged over rows, J = d encode / d x in input units (Rifai et al. 2011, ICML, equation 5).

    Halving the encoder's last layer and doubling the decoder's first would lower the penalty and change nothing else.
    Weights must therefore be tied, as in the paper: then small codes come back as small reconstructions.

    `jacobian` says how the norm is found: `exact` (in closed form for one layer, else by differentiation, one backward
    pass for each of the k values of a code) or `estimate` (`probes` backward passes, whatever k is).
    """

    weight: float
    jacobian: Literal["exact", "estimate"] = "exact"
    probes: int = 1
    error: Error = "squared"
    family: ClassVar = Family.CONTRACTIVE

    def loss(self, network: Autoencoder, x: Tensor, generator: Generator, *, progress: float = 1.0) -> Tensor:  # noqa: ARG002 (changes nothing)
        """The mean error of rows x (n, d) with the penalty, a scalar."""
        error = reconstruction_loss(network, network.encode(x), x, error=self.error)
        return error + self.weight * self.squared_norm(network, x, generator).mean()

    def squared_norm(self, network: Autoencoder, x: Tensor, generator: Generator) -> Tensor:
        """||J||_F^2, or its estimate, at every row of x (n, d): shape (n,), in squared code units per input unit."""
        if self.jacobian == "estimate":
            return estimated(network, x, generator, probes=self.probes)
        return closed_form(network, x) if _has_closed_form(network) else exact(network, x)

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        found = error_faults(self.error)
        if self.weight <= 0:
            found.append("the weight of the contractive penalty lies above 0")
        if self.jacobian not in ("exact", "estimate"):
            found.append(f"no way to the Jacobian is called {self.jacobian!r}; there are exact and estimate")
        if self.probes < 1:
            found.append("the Jacobian's estimate needs at least 1 probe")
        return found

    def faults_with(self, architecture: Architecture) -> list[str]:
        """What does not go with the network, in words; empty when all does."""
        found = []
        if not architecture.tied:
            found.append("a contractive autoencoder needs tied weights, or scaling escapes its penalty")
        if architecture.layer_norm:
            found.append("a contractive autoencoder cannot have layer normalisation, which takes back what tying holds")
        return found


def closed_form(network: Autoencoder, x: Tensor) -> Tensor:
    """||J||_F^2 = sum_j phi'(a_j)^2 sum_i (W_ji / scale_i)^2 of an encoder phi(W (x - offset) / scale + b) of one
    layer (Rifai et al. 2011, section 3): shape (n,) for rows x (n, d).

    Raises TypeError where the encoder is no such one.
    """
    if not _has_closed_form(network):
        raise TypeError("the closed form is that of one linear layer with a sigmoid, tanh or no activation")
    slope = _slope(network.code_activation, network.encode(x))
    return slope.square() @ (network.code.weight / network.scale).square().sum(dim=1)


def exact(network: Autoencoder, x: Tensor) -> Tensor:
    """||J||_F^2 of any encoder at every row of x (n, d), shape (n,), by k backward passes in one call."""
    z, x = _codes_of(network, x)
    # Rows do not mix, so one pass from value j of all codes gives row j of the Jacobian at every row of x.
    basis = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)[:, None, :].expand(-1, *z.shape)
    (jacobian,) = torch.autograd.grad(z, x, basis, is_grads_batched=True, create_graph=True)
    return jacobian.square().sum(dim=(0, 2))


def estimated(network: Autoencoder, x: Tensor, generator: Generator, *, probes: int) -> Tensor:
    """An unbiased estimate of ||J||_F^2 = tr(J J^T) = E ||J^T v||^2, v of independent signs, at every row of x (n, d):
    shape (n,), the mean over `probes` draws of v (Hutchinson 1990)."""
    z, x = _codes_of(network, x)
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for _ in range(probes):
        signs = torch.randint(0, 2, z.shape, generator=generator, device=z.device).to(z.dtype) * 2 - 1
        (product,) = torch.autograd.grad(z, x, signs, create_graph=True)
        total = total + product.square().sum(dim=1)
    return total / probes


def _codes_of(network: Autoencoder, x: Tensor) -> tuple[Tensor, Tensor]:
    """The codes of x and the rows that they can be differentiated by, also where gradients are off."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return network.encode(x), x


def _has_closed_form(network: Autoencoder) -> bool:
    one_layer = len(network.trunk) == 0 and isinstance(network.keep, nn.Identity)
    return one_layer and isinstance(network.code_activation, nn.Identity | nn.Sigmoid | nn.Tanh)


def _slope(activation: nn.Module, z: Tensor) -> Tensor:
    """phi'(a) where phi(a) = z."""
    if isinstance(activation, nn.Sigmoid):
        return z * (1 - z)
    return 1 - z.square() if isinstance(activation, nn.Tanh) else torch.ones_like(z)
