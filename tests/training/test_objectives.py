"""Objectives against independent references, and the first steps of each, pinned."""

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from training.corruption import Corruption, Mixture
from training.networks import Architecture, Autoencoder, VariationalAutoencoder, build
from training.objectives import Contractive, Denoising, KSparse, Linear, Objective, SparsePenalty, Vanilla, Variational
from training.objectives.variational import divergence_from_prior, reparameterise

ARCHITECTURE = Architecture(hidden=(8,), latent=2)
NOISE = Corruption(kind="gaussian", strength=0.2)
DENOISING = Denoising(corruption=NOISE)


def architecture_of(objective: Objective) -> Architecture:
    """The network that the objective needs."""
    match objective:
        case Linear():
            return replace(ARCHITECTURE, hidden=(), output="linear")
        case KSparse():
            return replace(ARCHITECTURE, latent=6, top_k=2)
        case SparsePenalty(penalty="kl"):
            return replace(ARCHITECTURE, code_activation="sigmoid")
        case SparsePenalty():
            return replace(ARCHITECTURE, code_activation="relu", unit_columns=True)
        case Contractive():
            return replace(ARCHITECTURE, hidden=(), code_activation="sigmoid", tied=True)
        case _:
            return ARCHITECTURE


def corrupted(rows: Tensor) -> Tensor:
    """What the denoising objective sees first."""
    return DENOISING.corruption(rows, generator(), bounds=(0.0, 1.0))


def network(*, variational: bool, architecture: Architecture = ARCHITECTURE) -> Autoencoder:
    return build(12, architecture, variational=variational, range=(0.0, 1.0), seed=0)


def generator(seed: int = 7) -> Generator:
    return Generator().manual_seed(seed)


def test_the_closed_form_divergence_is_that_of_torch_distributions() -> None:
    mean = 3 * torch.randn(64, 5, generator=generator(1), dtype=torch.float64)
    log_variance = 2 * torch.randn(64, 5, generator=generator(2), dtype=torch.float64)
    reference = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros(5), torch.ones(5))).sum(dim=1)
    torch.testing.assert_close(divergence_from_prior(mean, log_variance), reference)


def test_the_divergence_is_zero_for_the_prior_itself() -> None:
    assert torch.equal(divergence_from_prior(torch.zeros(3, 5), torch.zeros(3, 5)), torch.zeros(3))


def test_draws_have_the_mean_and_variance_that_they_are_asked_for() -> None:
    mean, log_variance = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, -3.0]])
    draws = reparameterise(mean.expand(200_000, 2), log_variance.expand(200_000, 2), generator())
    deviation = (log_variance[0] / 2).exp()
    assert ((draws.mean(dim=0) - mean[0]).abs() < 4 * deviation / 200_000**0.5).all()
    assert ((draws.std(dim=0) / deviation - 1).abs() < 4 / 400_000**0.5).all()


def test_gradients_flow_through_the_draw_to_mean_and_variance() -> None:
    mean = torch.randn(4, 3, generator=generator(1), dtype=torch.float64, requires_grad=True)
    log_variance = torch.randn(4, 3, generator=generator(2), dtype=torch.float64, requires_grad=True)
    reparameterise(mean, log_variance, generator()).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
    epsilon = torch.randn(4, 3, generator=generator(), dtype=torch.float64)
    assert mean.grad is not None
    assert log_variance.grad is not None
    torch.testing.assert_close(mean.grad, torch.ones(4, 3, dtype=torch.float64))
    torch.testing.assert_close(log_variance.grad, 0.5 * (log_variance / 2).exp().detach() * epsilon)


def test_the_variational_loss_reaches_every_weight(rows: Tensor) -> None:
    net = network(variational=True)
    Variational().loss(net, rows, generator()).backward()  # type: ignore[no-untyped-call]  # torch's own
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in net.parameters())


def test_bernoulli_surprise_is_that_of_torch_distributions() -> None:
    x = (torch.rand(20, 12, generator=generator(1)) > 0.5).float()
    logits = 4 * torch.randn(20, 12, generator=generator(2))
    reference = -Bernoulli(logits=logits).log_prob(x).sum(dim=1)  # type: ignore[no-untyped-call]  # torch's own
    torch.testing.assert_close(Variational().surprise(x, logits=logits, outputs=logits.sigmoid()), reference)


def test_gaussian_surprise_is_that_of_torch_distributions(rows: Tensor) -> None:
    outputs = torch.rand(rows.shape, generator=generator(1))
    reference = -Normal(outputs, 0.3).log_prob(rows).sum(dim=1)  # type: ignore[no-untyped-call]  # torch's own
    objective = Variational(likelihood="gaussian", spread=0.3)
    torch.testing.assert_close(objective.surprise(rows, logits=outputs.logit(), outputs=outputs), reference)


def test_beta_weighs_the_divergence(rows: Tensor) -> None:
    net = network(variational=True)
    assert isinstance(net, VariationalAutoencoder)
    one, three = (Variational(beta=beta).loss(net, rows, generator()) for beta in (1, 3))
    torch.testing.assert_close(three - one, 2 * divergence_from_prior(*net.encode_distribution(rows)).mean())


def test_a_network_without_distributions_is_refused(rows: Tensor) -> None:
    with pytest.raises(TypeError, match="encodes distributions"):
        Variational().loss(network(variational=False), rows, generator())


def test_the_denoising_loss_is_taken_against_the_clean_rows(rows: Tensor) -> None:
    net = network(variational=False)
    corrupted = DENOISING.corruption(rows, generator(), bounds=(0.0, 1.0))
    wanted = (net.decode(net.encode(corrupted)) - rows).square().mean()
    assert torch.equal(DENOISING.loss(net, rows, generator()), wanted)


def test_the_vanilla_loss_is_the_mean_squared_error_and_draws_nothing(rows: Tensor) -> None:
    net, unused = network(variational=False), generator()
    loss = Vanilla().loss(net, rows, unused)
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(net.reconstruct(rows), rows))
    assert torch.equal(unused.get_state(), generator().get_state())


@pytest.mark.parametrize(
    "objective",
    [
        Vanilla(error="cross_entropy"),
        replace(DENOISING, error="cross_entropy"),
        KSparse(error="cross_entropy"),
        SparsePenalty(penalty="kl", weights=(0.0, 1.0), target=0.5, error="cross_entropy"),
        Contractive(weight=1.0, error="cross_entropy"),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_cross_entropy_takes_the_place_of_the_squared_error(rows: Tensor, objective: Objective) -> None:
    net = network(variational=False, architecture=architecture_of(objective))
    assert not isinstance(objective, Linear | Variational)
    squared = replace(objective, error="squared")
    outputs = net.reconstruct(rows if not isinstance(objective, Denoising) else corrupted(rows))
    difference = objective.loss(net, rows, generator()) - squared.loss(net, rows, generator())
    error = torch.nn.functional.mse_loss(outputs, rows)
    torch.testing.assert_close(difference, torch.nn.functional.binary_cross_entropy(outputs, rows) - error)


# The loss of steps 1, 10 and 20 on a fixed batch of 200 rows: a change here is a change of what is trained.
CURVES: dict[str, tuple[Objective, tuple[float, float, float]]] = {
    "vanilla": (Vanilla(), (0.0883952, 0.0780713, 0.0572871)),
    "denoising": (DENOISING, (0.0884411, 0.0786290, 0.0595238)),
    "variational": (Variational(), (8.590146, 8.339770, 8.316875)),
    "linear": (Linear(), (0.1081118, 0.0797915, 0.0671252)),
    "vanilla, cross-entropy": (Vanilla(error="cross_entropy"), (0.7045128, 0.6838181, 0.6394347)),
    "denoising, mixed": (
        Denoising(corruption=Mixture(corruptions=(NOISE, Corruption(kind="masking", strength=0.3)))),
        (0.0887265, 0.0795978, 0.0626877),
    ),
    "k-sparse": (KSparse(), (0.0838777, 0.0787044, 0.0628849)),
    "sparse, KL": (SparsePenalty(penalty="kl", weights=(0.0, 0.1), target=0.1), (0.1256326, 0.1012051, 0.0849014)),
    "sparse, L1": (SparsePenalty(penalty="l1", weights=(0.0, 0.1), target=0.0), (0.1242832, 0.0834387, 0.0822794)),
    "sparse, L2": (SparsePenalty(penalty="l2", weights=(0.1, 0.1), target=0.2), (0.0935117, 0.0801710, 0.0731872)),
    "contractive": (Contractive(weight=0.01), (0.0853789, 0.0808230, 0.0761176)),
    "contractive, estimated": (Contractive(weight=0.01, jacobian="estimate"), (0.0853333, 0.0808564, 0.0757098)),
    "variational, warmed up": (Variational(warm_up=0.5), (8.503998, 8.354733, 8.324187)),
    "variational, free bits": (Variational(free_bits=0.1), (8.703998, 8.501599, 8.462384)),
    "variational, importance-weighted": (Variational(importance_samples=5), (8.531454, 8.337388, 8.307492)),
    "variational, gaussian": (Variational(likelihood="gaussian", spread=0.2), (5.338171, 4.169621, 3.793068)),
}


@pytest.mark.parametrize(("objective", "pinned"), CURVES.values(), ids=CURVES)
def test_the_first_twenty_steps_go_as_they_always_went(
    rows: Tensor, objective: Objective, pinned: tuple[float, float, float]
) -> None:
    net = network(variational=isinstance(objective, Variational), architecture=architecture_of(objective))
    draws = generator()
    net.standardise_by(rows, one_scale=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    losses = []
    for step in range(20):
        loss = objective.loss(net, rows, draws, progress=step / 20)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        losses.append(loss.item())
    assert (losses[0], losses[9], losses[19]) == pytest.approx(pinned, rel=1e-4)


@pytest.mark.parametrize(
    ("objective", "fault"),
    [
        (Variational(beta=-1), "beta cannot be negative"),
        (Variational(likelihood="gaussian", spread=0), "spread"),
        (replace(DENOISING, corruption=Corruption(kind="masking", strength=2)), "fraction"),
    ],
)
def test_what_cannot_be_is_a_fault(objective: Objective, fault: str) -> None:
    assert any(fault in found for found in objective.faults())
