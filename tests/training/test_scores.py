"""Scores: what they are, that they draw nothing, and that a map adds up to its score."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from training.config import Config
from training.networks import Architecture, VariationalAutoencoder, build
from training.objectives import Variational
from training.scores import AnomalyScore, NegativeElbo, ReconstructionError, score_of


@pytest.fixture
def network() -> VariationalAutoencoder:
    net = build(12, Architecture(hidden=(8,), latent=2), variational=True, range=(0.0, 1.0), seed=0)
    assert isinstance(net, VariationalAutoencoder)
    return net


@pytest.fixture(params=["reconstruction_error", "negative_elbo"])
def score(request: pytest.FixtureRequest, network: VariationalAutoencoder) -> AnomalyScore:
    return (
        ReconstructionError(network)
        if request.param == "reconstruction_error"
        else NegativeElbo(network, Variational())
    )


@pytest.mark.parametrize("n", [0, 1, 2, 200])
def test_there_is_one_score_for_each_row(score: AnomalyScore, rows: Tensor, n: int) -> None:
    assert score(rows[:n]).shape == (n,)


def test_a_score_is_the_same_twice_and_draws_nothing(score: AnomalyScore, rows: Tensor) -> None:
    state = torch.get_rng_state()
    assert torch.equal(score(rows), score(rows))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_score_depends_on_its_own_row_alone(score: AnomalyScore, rows: Tensor) -> None:
    torch.testing.assert_close(score(rows)[17:18], score(rows[17:18]))


def test_the_map_adds_up_to_the_score(network: VariationalAutoencoder, rows: Tensor) -> None:
    score = ReconstructionError(network)
    assert score.additive
    torch.testing.assert_close(score.anomaly_map(rows).mean(dim=1), score(rows))
    torch.testing.assert_close(score.anomaly_map(rows), (network.decode(network.encode(rows)) - rows) ** 2)


def test_the_negative_elbo_is_that_of_torch_distributions(network: VariationalAutoencoder, rows: Tensor) -> None:
    x = rows.round()
    mean, log_variance = network.encode_distribution(x)
    code = Normal(mean, (log_variance / 2).exp())
    reference = kl_divergence(code, Normal(torch.zeros(2), torch.ones(2))).sum(dim=1)
    reference = reference - Bernoulli(probs=network.decode(mean)).log_prob(x).sum(dim=1)  # type: ignore[no-untyped-call]  # torch's own
    torch.testing.assert_close(NegativeElbo(network, Variational())(x), reference, rtol=1e-4, atol=1e-4)


def test_the_configuration_chooses_the_score(network: VariationalAutoencoder, config: Config) -> None:
    assert isinstance(score_of(config, network), ReconstructionError)
    assert isinstance(score_of(replace(config, score="negative_elbo"), network), NegativeElbo)
