"""The variational autoencoder's objective: the negative evidence lower bound."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional

from bundle.operations import Family
from training.networks import Autoencoder, VariationalAutoencoder

__all__ = ["Variational", "divergence_from_prior", "reparameterise"]


def reparameterise(mean: Tensor, log_variance: Tensor, generator: Generator) -> Tensor:
    """z = mean + exp(log_variance / 2) * epsilon, epsilon from N(0, I): a draw, shape (n, k), through which gradients
    reach both (Kingma & Welling 2014, section 2.4)."""
    epsilon = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + (0.5 * log_variance).exp() * epsilon


def divergence_from_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) = 1/2 sum_j (mean_j^2 + exp(log_variance_j) - 1 - log_variance_j).

    Shape (n,), in nats, of arguments (n, k) (Kingma & Welling 2014, appendix B).
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class Variational:
    """L(x) = -log p(x | z) + beta KL(q(z | x) || N(0, I)), summed over elements, averaged over rows, one draw of z from
    q(z | x) for each (Kingma & Welling 2014, equation 7; beta as in Higgins et al. 2017, equation 4).

    `bernoulli` takes grey values in [0, 1] for probabilities (binary cross-entropy); `gaussian` has the standard
    deviation `spread`, in input units, for every element.
    """

    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    beta: float = 1.0
    spread: float = 0.1
    family: ClassVar = Family.VARIATIONAL

    def loss(self, network: Autoencoder, x: Tensor, generator: Generator) -> Tensor:
        """The negative evidence lower bound, a scalar in nats per row, of rows x (n, d)."""
        if not isinstance(network, VariationalAutoencoder):
            raise TypeError("the variational objective needs a network that encodes distributions")
        mean, log_variance = network.encode_distribution(x)
        logits = network.logits(reparameterise(mean, log_variance, generator))
        surprise = self.surprise(x, logits=logits, outputs=network.output(logits))
        return (surprise + self.beta * divergence_from_prior(mean, log_variance)).mean()

    def surprise(self, x: Tensor, *, logits: Tensor, outputs: Tensor) -> Tensor:
        """-log p(x | z), shape (n,), in nats, of rows x (n, d), where z was decoded to `outputs` (n, d), which are the
        sigmoid of `logits` (n, d) where the likelihood is Bernoulli's."""
        if self.likelihood == "bernoulli":
            # Binary cross-entropy in a form that neither overflows nor looks at sizes, which tracing could not follow.
            return (functional.softplus(logits) - x * logits).sum(dim=1)
        squares = (outputs - x).square().sum(dim=1)
        return squares / (2 * self.spread**2) + x.shape[1] * (math.log(self.spread) + 0.5 * math.log(2 * math.pi))

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        found = []
        if self.likelihood not in ("bernoulli", "gaussian"):
            found.append(f"no likelihood is called {self.likelihood!r}; there are bernoulli and gaussian")
        if self.beta < 0:
            found.append("beta cannot be negative")
        if self.spread <= 0:
            found.append("the spread of a Gaussian likelihood lies above 0")
        return found
