"""What `anomaly_score` computes, as modules that go into the exported graph. None draws: equal rows, equal scores."""

from typing import ClassVar, Literal

from torch import Tensor, nn

from training.config import Config
from training.networks import Autoencoder, VariationalAutoencoder
from training.objectives import Variational
from training.objectives.variational import divergence_from_prior

__all__ = ["AnomalyScore", "NegativeElbo", "ReconstructionError", "score_of"]


class ReconstructionError(nn.Module):
    """s(x) = 1/d ||x - decode(encode(x))||^2, in squared input units: the mean over elements of `anomaly_map`."""

    kind: ClassVar[Literal["reconstruction_error"]] = "reconstruction_error"
    additive: ClassVar = True

    def __init__(self, network: Autoencoder) -> None:
        super().__init__()
        self.network = network

    def anomaly_map(self, x: Tensor) -> Tensor:
        """The squared error of every element, shape (n, d) as x."""
        return (self.network.reconstruct(x) - x).square()

    def forward(self, x: Tensor) -> Tensor:
        """The scores (n,) of rows x (n, d)."""
        return self.anomaly_map(x).mean(dim=1)


class NegativeElbo(nn.Module):
    """s(x) = -log p(x | z = mean(x)) + KL(q(z | x) || N(0, I)), in nats: the bound with the code at its mean instead of
    drawn. The divergence belongs to a row as a whole, so there is no map."""

    kind: ClassVar[Literal["negative_elbo"]] = "negative_elbo"
    additive: ClassVar = False

    def __init__(self, network: VariationalAutoencoder, objective: Variational) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, x: Tensor) -> Tensor:
        """The scores (n,) of rows x (n, d)."""
        mean, log_variance = self.network.encode_distribution(x)
        logits = self.network.logits(mean)
        surprise = self.objective.surprise(x, logits=logits, outputs=self.network.output(logits))
        return surprise + divergence_from_prior(mean, log_variance)


AnomalyScore = ReconstructionError | NegativeElbo


def score_of(config: Config, network: Autoencoder) -> AnomalyScore:
    """The score that a checked `config` asks for, over `network`."""
    if (
        config.score == "negative_elbo"
        and isinstance(network, VariationalAutoencoder)
        and isinstance(config.objective, Variational)
    ):
        return NegativeElbo(network, config.objective)
    return ReconstructionError(network)
