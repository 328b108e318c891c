"""The variational autoencoder's objective: the negative evidence lower bound."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional

from bundle.operations import Family
from training.networks import Architecture, Autoencoder, VariationalAutoencoder
from training.objectives.importance_weighting import log_weight, negative_bound

__all__ = ["Variational", "divergence_from_prior", "divergence_per_value", "reparameterise"]


def reparameterise(mean: Tensor, log_variance: Tensor, generator: Generator) -> Tensor:
    """z = mean + exp(log_variance / 2) * epsilon, epsilon from N(0, I): a draw, shape (n, k), through which gradients
    reach both (Kingma & Welling 2014, section 2.4)."""
    epsilon = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + (0.5 * log_variance).exp() * epsilon


def divergence_per_value(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean_j, exp(log_variance_j)) || N(0, 1)) = 1/2 (mean_j^2 + exp(log_variance_j) - 1 - log_variance_j).

    Shape (n, k), in nats, as the arguments (Kingma & Welling 2014, appendix B).
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def divergence_from_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)): the sum over a code's values, shape (n,), in nats, of arguments
    (n, k)."""
    return divergence_per_value(mean, log_variance).sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class Variational:
    """L(x) = -log p(x | z) + beta KL(q(z | x) || N(0, I)), summed over elements, averaged over rows, one draw of z from
    q(z | x) for each (Kingma & Welling 2014, equation 7; beta as in Higgins et al. 2017, equation 4).

    - `bernoulli` takes grey values in [0, 1] for probabilities (binary cross-entropy); `gaussian` has the standard
      deviation `spread`, in input units, for every element, or the network's own where that learns one.
    - Over the first `warm_up` share of the steps beta rises from 0 on a line (Bowman et al. 2016, section 3.1).
    - `free_bits`: a code's value costs at least so many nats, on average over rows, so that using it up to there is
      free: sum_j max(free_bits, KL_j) (Kingma et al. 2016, equation 15).
    - With more than one of `importance_samples` the loss is the importance-weighted bound of as many draws of z
      (Burda et al. 2015, equation 8), where beta, warm-up and free bits have no meaning.
    """

    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    beta: float = 1.0
    spread: float = 0.1
    warm_up: float = 0.0
    free_bits: float = 0.0
    importance_samples: int = 1
    family: ClassVar = Family.VARIATIONAL

    def loss(self, network: Autoencoder, x: Tensor, generator: Generator, *, progress: float = 1.0) -> Tensor:
        """The negative bound, a scalar in nats per row, of rows x (n, d), when the share `progress` of all steps is
        behind."""
        if not isinstance(network, VariationalAutoencoder):
            raise TypeError("the variational objective needs a network that encodes distributions")
        mean, log_variance = network.encode_distribution(x)
        if self.importance_samples > 1:
            return self._importance_weighted(network, x, mean, log_variance, generator).mean()
        surprise = self._surprise_of(network, x, reparameterise(mean, log_variance, generator))
        if self.free_bits > 0:
            per_value = divergence_per_value(mean, log_variance).mean(dim=0)
            return surprise.mean() + self._beta_at(progress) * per_value.clamp(min=self.free_bits).sum()
        return (surprise + self._beta_at(progress) * divergence_from_prior(mean, log_variance)).mean()

    def surprise(self, x: Tensor, *, logits: Tensor, outputs: Tensor, spread: Tensor | None = None) -> Tensor:
        """-log p(x | z), shape (n,), in nats, of rows x (n, d), where z was decoded to `outputs` (n, d), which are the
        sigmoid of `logits` (n, d) where the likelihood is Bernoulli's. A learnt `spread`, of all elements or of each
        (d,), takes the place of the objective's own."""
        if self.likelihood == "bernoulli":
            # Binary cross-entropy in a form that neither overflows nor looks at sizes, which tracing could not follow.
            return (functional.softplus(logits) - x * logits).sum(dim=1)
        if spread is None:
            squares = (outputs - x).square().sum(dim=1)
            return squares / (2 * self.spread**2) + x.shape[1] * (math.log(self.spread) + 0.5 * math.log(2 * math.pi))
        squares = ((outputs - x) / spread).square().sum(dim=1)
        return squares / 2 + spread.log().expand(x.shape[1]).sum() + x.shape[1] * 0.5 * math.log(2 * math.pi)

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        found = []
        if self.likelihood not in ("bernoulli", "gaussian"):
            found.append(f"no likelihood is called {self.likelihood!r}; there are bernoulli and gaussian")
        if self.beta < 0:
            found.append("beta cannot be negative")
        if self.spread <= 0:
            found.append("the spread of a Gaussian likelihood lies above 0")
        if not 0 <= self.warm_up <= 1:
            found.append("the warm-up is a share of the training, between 0 and 1")
        if self.free_bits < 0:
            found.append("free bits cannot be negative")
        if self.importance_samples < 1:
            found.append("the bound needs at least 1 importance sample")
        if self.importance_samples > 1 and (self.beta, self.warm_up, self.free_bits) != (1, 0, 0):
            found.append("an importance-weighted bound has no beta, no warm-up and no free bits")
        return found

    def faults_with(self, architecture: Architecture) -> list[str]:
        """What does not go with the network, in words; empty when all does."""
        found = []
        if architecture.code_activation != "linear" or architecture.top_k is not None:
            found.append("the code of a variational autoencoder is a mean: it has no activation and no top_k")
        if architecture.learnt_spread and self.likelihood != "gaussian":
            found.append("only a Gaussian likelihood has a spread to learn")
        return found

    def _beta_at(self, progress: float) -> float:
        return self.beta if progress >= self.warm_up else self.beta * progress / self.warm_up

    def _surprise_of(self, network: VariationalAutoencoder, x: Tensor, z: Tensor) -> Tensor:
        logits = network.logits(z)
        # A Bernoulli likelihood looks at the logits alone: no sigmoid that nobody needs.
        outputs = logits if self.likelihood == "bernoulli" else network.output(logits)
        return self.surprise(x, logits=logits, outputs=outputs, spread=network.spread)

    def _importance_weighted(
        self, network: VariationalAutoencoder, x: Tensor, mean: Tensor, log_variance: Tensor, generator: Generator
    ) -> Tensor:
        """The negative importance-weighted bound (n,) of rows x (n, d)."""
        # All draws of all rows in one batch: draw by draw would be as many small matrix products.
        rows, mean, log_variance = (part.repeat(self.importance_samples, 1) for part in (x, mean, log_variance))
        z = reparameterise(mean, log_variance, generator)
        weights = log_weight(self._surprise_of(network, rows, z), z, mean=mean, log_variance=log_variance)
        return negative_bound(weights.view(self.importance_samples, -1))
