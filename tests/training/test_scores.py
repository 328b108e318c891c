"""Scores: what they are, what they learn and from what, that they draw nothing, and that a map adds up to its score."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from bundle.manifest import ScoreKind
from bundle.operations import Method
from training.config import Config
from training.errors import ConfigInvalid
from training.export import Artefact, Program, check_parity, export
from training.networks import Architecture, Autoencoder, VariationalAutoencoder, build
from training.objectives import Vanilla, Variational
from training.scores import (
    AnomalyScore,
    Mahalanobis,
    MahalanobisResidual,
    NegativeElbo,
    RappNap,
    RappSap,
    ReconstructionError,
    WeightedError,
    score_of,
)

KINDS: tuple[ScoreKind, ...] = get_args(ScoreKind)
WIDE = Architecture(hidden=(48, 24), latent=8)


@pytest.fixture
def network(rows: Tensor) -> VariationalAutoencoder:
    net = build(12, Architecture(hidden=(8, 5), latent=2), variational=True, range=(0.0, 1.0), seed=0)
    assert isinstance(net, VariationalAutoencoder)
    net.standardise_by(rows, one_scale=True)
    return net.requires_grad_(False)


@pytest.fixture(params=KINDS)
def score(
    request: pytest.FixtureRequest, config: Config, network: VariationalAutoencoder, rows: Tensor
) -> AnomalyScore:
    asked = score_of(replace(config, score=request.param), network)
    asked.fit(rows)
    return asked.requires_grad_(False)


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.from_numpy(load_digits().data.astype(np.float32) / 16)[
        torch.randperm(1797, generator=Generator().manual_seed(0))
    ]


@pytest.fixture(scope="module")
def of_digits(digits: Tensor) -> Autoencoder:
    """A network that reconstructs the first 1,200 digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    net = build(64, WIDE, variational=False, range=(0.0, 1.0), seed=0)
    net.standardise_by(digits[:1200], one_scale=True)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    generator = Generator().manual_seed(0)
    for _ in range(30):
        for batch in torch.split(torch.randperm(1200, generator=generator), 50):
            optimizer.zero_grad()
            Vanilla().loss(net, digits[batch], generator).backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
    torch.set_num_threads(threads)
    return net.requires_grad_(False)


@pytest.mark.parametrize("n", [0, 1, 2, 200])
def test_there_is_one_score_for_each_row(score: AnomalyScore, rows: Tensor, n: int) -> None:
    assert score(rows[:n]).shape == (n,)


def test_a_score_is_the_same_twice_and_draws_nothing(score: AnomalyScore, rows: Tensor) -> None:
    state = torch.get_rng_state()
    assert torch.equal(score(rows), score(rows))
    score.fit(rows)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_score_depends_on_its_own_row_alone(score: AnomalyScore, rows: Tensor) -> None:
    torch.testing.assert_close(score(rows)[17:18], score(rows[17:18]))


def test_a_score_learns_the_same_twice_and_keeps_it_as_float32_buffers(score: AnomalyScore, rows: Tensor) -> None:
    before = {name: value.clone() for name, value in score.state_dict().items()}
    score.fit(rows)
    assert all(torch.equal(value, before[name]) for name, value in score.state_dict().items())
    assert {value.dtype for value in score.state_dict().values()} == {torch.float32}
    assert sum(1 for _ in score.parameters()) == sum(1 for _ in score.network.parameters())


@pytest.mark.parametrize("n", [1, 2, 17])
def test_the_exported_score_is_that_of_the_module(
    score: AnomalyScore, network: VariationalAutoencoder, rows: Tensor, n: int
) -> None:
    program = Program(network, score)
    artefact = Artefact(export(program, [Method.ENCODE, Method.ANOMALY_SCORE], rows=rows[:64]))
    assert check_parity(artefact, program, [Method.ANOMALY_SCORE], rows=rows) < 1e-3
    np.testing.assert_allclose(artefact.run(Method.ANOMALY_SCORE, rows[:n].numpy())[0], score(rows[:n]), rtol=1e-5)


def test_only_reconstruction_errors_add_up(score: AnomalyScore) -> None:
    assert score.additive == hasattr(score, "anomaly_map") == (score.kind in ("reconstruction_error", "weighted_error"))


def test_the_map_adds_up_to_the_score(network: VariationalAutoencoder, rows: Tensor) -> None:
    score = ReconstructionError(network)
    torch.testing.assert_close(score.anomaly_map(rows).mean(dim=1), score(rows))
    torch.testing.assert_close(score.anomaly_map(rows), (network.decode(network.encode(rows)) - rows) ** 2)


def test_the_weighted_error_multiplies_both_factors_to_equal_effect(
    network: VariationalAutoencoder, rows: Tensor
) -> None:
    score = WeightedError(network)
    score.fit(rows)
    score.alone_factor.zero_()
    errors, usual = ReconstructionError(network), rows.square().mean()
    relative = errors(rows) / (rows.square().mean(dim=1).clamp(max=usual) + 0.01 * usual)
    weights = score(rows) / relative
    shared = errors.anomaly_map(rows) * (score(rows) / errors(rows))[:, None]
    torch.testing.assert_close(score.anomaly_map(rows), shared)
    assert weights.log().std().item() == pytest.approx(relative.log().std().item(), rel=1e-3)


def test_an_error_that_is_unusual_alone_is_the_weighted_error(network: VariationalAutoencoder, rows: Tensor) -> None:
    score, errors = WeightedError(network), ReconstructionError(network)
    score.fit(rows)
    alone = score.alone_factor * errors(rows) ** score.alone_power
    both = score(rows).log()
    score.alone_factor.zero_()
    weighted = score(rows).log()
    torch.testing.assert_close(both, weighted.maximum(alone.log()))
    assert alone.log().std().item() == pytest.approx(0.7 * weighted.std().item(), rel=1e-3)
    assert alone.log().median().item() == pytest.approx(weighted.median().item(), abs=1e-4)


def test_the_weighted_error_of_a_row_grows_where_codes_and_sizes_are_unusual(
    network: VariationalAutoencoder, rows: Tensor
) -> None:
    score, errors = WeightedError(network), ReconstructionError(network)
    score.fit(rows)
    bright = rows + 3
    assert (score(bright) / score(rows) > 3 * errors(bright) / errors(rows)).all()


def test_the_negative_elbo_is_that_of_torch_distributions(network: VariationalAutoencoder, rows: Tensor) -> None:
    x = rows.round()
    mean, log_variance = network.encode_distribution(x)
    code = Normal(mean, (log_variance / 2).exp())
    reference = kl_divergence(code, Normal(torch.zeros(2), torch.ones(2))).sum(dim=1)
    reference = reference - Bernoulli(probs=network.decode(mean)).log_prob(x).sum(dim=1)  # type: ignore[no-untyped-call]  # torch's own
    torch.testing.assert_close(NegativeElbo(network, Variational())(x), reference, rtol=1e-4, atol=1e-4)


def test_the_mahalanobis_distance_is_that_of_the_inverse_covariance(
    network: VariationalAutoencoder, rows: Tensor
) -> None:
    score = Mahalanobis(network)
    score.fit(rows[:150])
    codes = network.encode(rows).double().numpy()
    away = codes - codes[:150].mean(axis=0)
    wanted = np.einsum("ni,ij,nj->n", away, np.linalg.inv(np.cov(codes[:150].T, bias=True)), away)
    np.testing.assert_allclose(score(rows), wanted, rtol=1e-4)


def test_the_mahalanobis_distance_does_not_depend_on_the_units_of_the_code(
    network: VariationalAutoencoder, rows: Tensor
) -> None:
    score = Mahalanobis(network)
    score.fit(rows)
    before = score(rows)
    units = torch.tensor([1000.0, 0.002])
    network.code.weight.mul_(units[:, None])
    network.code.bias.mul_(units)
    score.fit(rows)
    torch.testing.assert_close(score(rows), before, rtol=1e-3, atol=1e-4)


def test_the_residual_counts_in_units_of_what_is_left_in_training(
    network: VariationalAutoencoder, rows: Tensor
) -> None:
    score, code_alone = MahalanobisResidual(network), Mahalanobis(network)
    score.fit(rows[:150])
    code_alone.fit(rows[:150])
    left = ((rows - network.reconstruct(rows)) / network.scale).double().numpy()
    wanted = code_alone(rows).numpy() + (left**2).sum(axis=1) / (left[:150] ** 2).mean()
    np.testing.assert_allclose(score(rows), wanted, rtol=1e-5)


def pathway(network: Autoencoder, rows: Tensor) -> npt.NDArray[np.float64]:
    """The differences along the projection pathway, layer by layer from the weights."""
    weights = network.state_dict()
    linear = [
        (weights[name].double().numpy(), weights[name.replace("weight", "bias")].double().numpy())
        for name in weights
        if name.startswith(("trunk", "code")) and weights[name].ndim == 2
    ]

    def states(x: Tensor) -> list[npt.NDArray[np.float64]]:
        found = [((x - network.offset) / network.scale).double().numpy()]
        for i, (weight, bias) in enumerate(linear):
            found.append(found[-1] @ weight.T + bias)
            if i < len(linear) - 1:
                found[-1] = np.maximum(found[-1], 0)
        return found

    return np.hstack([h - back for h, back in zip(states(rows), states(network.reconstruct(rows)), strict=True)])


def test_sap_adds_up_the_squared_differences_along_the_pathway(network: VariationalAutoencoder, rows: Tensor) -> None:
    assert pathway(network, rows).shape == (200, 12 + 8 + 5 + 2)
    np.testing.assert_allclose(RappSap(network)(rows), (pathway(network, rows) ** 2).sum(axis=1), rtol=1e-4)


def test_nap_whitens_the_differences_by_those_of_the_training_rows(of_digits: Autoencoder, digits: Tensor) -> None:
    score = RappNap(of_digits)
    score.fit(digits[:1200])
    train, others = pathway(of_digits, digits[:1200]), pathway(of_digits, digits[1200:])
    _, singular, directions = np.linalg.svd(train - train.mean(axis=0), full_matrices=False)
    spread = singular / np.sqrt(1200)
    spread = np.maximum(spread, spread[0] * np.sqrt(1e-3))
    wanted = (((others - train.mean(axis=0)) @ directions.T / spread) ** 2).sum(axis=1)
    np.testing.assert_allclose(score(digits[1200:]), wanted, rtol=1e-3)


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "noise": lambda x: torch.rand(x.shape, generator=Generator().manual_seed(1)),
    "permuted": lambda x: x[:, torch.randperm(64, generator=Generator().manual_seed(1))],
}
# The code alone does not know what it leaves out, which is most of what is odd about such rows.
FLOORS = {
    "reconstruction_error": 0.99,
    "mahalanobis": 0.8,
    "mahalanobis_residual": 0.99,
    "rapp_sap": 0.99,
    "rapp_nap": 0.97,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", FLOORS)
def test_what_is_no_digit_scores_higher_than_digits(
    of_digits: Autoencoder, digits: Tensor, config: Config, kind: ScoreKind, odd: str
) -> None:
    score = score_of(replace(config, score=kind, architecture=WIDE, objective=Vanilla()), of_digits)
    score.fit(digits[:1200])
    normal, strange = score(digits[1200:]), score(ODD[odd](digits[1200:]))
    truth = np.repeat([0, 1], [len(normal), len(strange)])
    assert roc_auc_score(truth, torch.cat([normal, strange])) > FLOORS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_chooses_the_score(network: VariationalAutoencoder, config: Config, kind: ScoreKind) -> None:
    assert score_of(replace(config, score=kind), network).kind == kind


@pytest.mark.parametrize("kind", ["rapp_sap", "rapp_nap"])
def test_a_pathway_needs_hidden_layers(config: Config, kind: ScoreKind) -> None:
    flat = replace(config, score=kind, architecture=Architecture(hidden=(), latent=3))
    with pytest.raises(ConfigInvalid, match=f"{kind} compares hidden layers"):
        flat.check()
    replace(flat, architecture=Architecture(hidden=(4,), latent=3)).check()


def test_the_score_of_a_bound_needs_a_variational_run(config: Config) -> None:
    replace(config, score="negative_elbo").check()
    with pytest.raises(ConfigInvalid, match="negative ELBO"):
        replace(config, score="negative_elbo", objective=Vanilla()).check()
