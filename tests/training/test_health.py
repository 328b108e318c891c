"""The health of codes, on networks whose health is known."""

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Normal, kl_divergence

from bundle.operations import Method
from training.export import Artefact, Program, export
from training.health import Health, divergences, examine
from training.networks import Architecture, Autoencoder, VariationalAutoencoder, build
from training.scores import ReconstructionError

LINEAR = Architecture(hidden=(), latent=4, output="linear", standardise=False)


def health_of(network: Autoencoder, rows: Tensor) -> Health:
    variational = isinstance(network, VariationalAutoencoder)
    methods = [Method.ENCODE, Method.RECONSTRUCT] + [Method.ENCODE_DISTRIBUTION] * variational
    content = export(Program(network, ReconstructionError(network)), methods, rows=rows[:8])
    return examine(Artefact(content), network, test=rows, variational=variational, seed=0)


def linear(weight: Tensor) -> Autoencoder:
    """z = W x, and back by the pseudo-inverse."""
    network = build(
        weight.shape[1],
        Architecture(hidden=(), latent=len(weight), output="linear"),
        variational=False,
        range=None,
        seed=0,
    )
    network.requires_grad_(False)
    network.code.weight.copy_(weight)
    network.code.bias.zero_()
    last = network.decoder[-1]
    assert isinstance(last, torch.nn.Linear)
    last.weight.copy_(torch.linalg.pinv(weight))
    last.bias.zero_()
    return network


def test_the_identity_brings_shuffled_rows_back(rows: Tensor) -> None:
    health = health_of(linear(torch.eye(12)), rows)
    assert health.unexplained == pytest.approx(0, abs=1e-6)
    assert health.unexplained_shuffled == pytest.approx(0, abs=1e-6)
    assert health.jacobian == pytest.approx(12)


def test_principal_components_bring_back_rows_but_not_shuffled_ones(rows: Tensor) -> None:
    centred = rows - rows.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    health = health_of(linear(directions[:3]), centred)
    assert health.unexplained < 0.15
    assert health.unexplained_shuffled > 0.5


def test_the_jacobian_of_a_linear_encoder_is_its_weight(rows: Tensor) -> None:
    weight = torch.randn(5, 12, generator=Generator().manual_seed(0))
    assert health_of(linear(weight), rows).jacobian == pytest.approx(weight.square().sum().item(), rel=1e-5)


def test_units_without_weights_are_dead_and_weak_ones_are_not_active(rows: Tensor) -> None:
    weight = torch.randn(6, 12, generator=Generator().manual_seed(0))
    weight[0] = 0
    weight[1] *= 1e-2
    health = health_of(linear(weight), rows)
    assert (health.size, health.dead, health.active) == (6, 1, 4)
    assert health.variances[0] == 0


def test_values_that_top_k_drops_are_quiet(rows: Tensor) -> None:
    sparse = build(
        12, Architecture(hidden=(), latent=10, top_k=2, output="linear"), variational=False, range=None, seed=0
    )
    assert 0.8 <= health_of(sparse, rows).quiet < 0.9


def test_divergences_are_those_of_torch_distributions_and_belong_to_a_prior(rows: Tensor) -> None:
    network = build(12, Architecture(hidden=(8,), latent=3), variational=True, range=(0.0, 1.0), seed=0)
    assert isinstance(network, VariationalAutoencoder)
    health = health_of(network, rows)
    mean, log_variance = network.encode_distribution(rows)
    wanted = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros(3), torch.ones(3))).mean(dim=0)
    assert health.divergences == pytest.approx(wanted.tolist(), rel=1e-4)
    assert divergences(mean.detach().numpy(), log_variance.detach().numpy()) == health.divergences
    assert health_of(linear(torch.eye(12)), rows).divergences is None


def test_equal_arguments_give_equal_health(rows: Tensor) -> None:
    network = linear(torch.randn(5, 12, generator=Generator().manual_seed(0)))
    state = torch.get_rng_state()
    assert health_of(network, rows) == health_of(network, rows)
    assert torch.equal(torch.get_rng_state(), state)
