"""What a variational run can be told besides likelihood and beta: spread, warm-up, free bits, importance weights."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Normal

from training.evaluate import grey_entropy
from training.networks import LEAST_LOG_SPREAD, Architecture, VariationalAutoencoder, build
from training.objectives import Variational
from training.objectives.importance_weighting import log_weight, negative_bound
from training.objectives.variational import divergence_from_prior, divergence_per_value, reparameterise

ARCHITECTURE = Architecture(hidden=(8,), latent=2)
GAUSSIAN = Variational(likelihood="gaussian", spread=0.3)


def network(architecture: Architecture = ARCHITECTURE) -> VariationalAutoencoder:
    net = build(12, architecture, variational=True, range=(0.0, 1.0), seed=0)
    assert isinstance(net, VariationalAutoencoder)
    return net


def generator(seed: int = 7) -> Generator:
    return Generator().manual_seed(seed)


def log_weights(net: VariationalAutoencoder, objective: Variational, x: Tensor, *, draws: int) -> Tensor:
    """log w of `draws` draws for each row: shape (draws, n)."""
    mean, log_variance = (part.repeat(draws, 1) for part in net.encode_distribution(x))
    z = reparameterise(mean, log_variance, generator())
    logits = net.logits(z)
    surprise = objective.surprise(x.repeat(draws, 1), logits=logits, outputs=net.output(logits))
    return log_weight(surprise, z, mean=mean, log_variance=log_variance).view(draws, len(x)).detach()


def test_beta_rises_on_a_line_while_it_warms_up(rows: Tensor) -> None:
    net, objective = network(), Variational(beta=2, warm_up=0.5)
    losses = [objective.loss(net, rows, generator(), progress=p).item() for p in (0.0, 0.25, 0.5, 1.0)]
    divergence = divergence_from_prior(*net.encode_distribution(rows)).mean().item()
    assert losses[1] - losses[0] == pytest.approx(divergence, rel=1e-3)
    assert losses[2] - losses[0] == pytest.approx(2 * divergence, rel=1e-3)
    assert losses[3] == losses[2] == Variational(beta=2).loss(net, rows, generator()).item()


def test_without_warm_up_progress_changes_nothing(rows: Tensor) -> None:
    start, end = (Variational().loss(network(), rows, generator(), progress=p) for p in (0.0, 1.0))
    assert torch.equal(start, end)


def test_free_bits_are_the_least_that_a_value_costs(rows: Tensor) -> None:
    net = network()
    per_value = divergence_per_value(*net.encode_distribution(rows)).mean(dim=0)
    floor = per_value.mean().item()
    assert per_value.min() < floor < per_value.max()
    without = Variational().loss(net, rows, generator())
    with_them = Variational(free_bits=floor).loss(net, rows, generator())
    torch.testing.assert_close(with_them - without, per_value.clamp(min=floor).sum() - per_value.sum())


def test_values_within_their_free_bits_are_not_pulled_to_the_prior(rows: Tensor) -> None:
    net, objective = network(), Variational(free_bits=100.0)
    beta = [replace(objective, beta=b).loss(net, rows, generator()) for b in (0.0, 1.0)]
    gradients = [torch.autograd.grad(loss, net.code.weight, retain_graph=True)[0] for loss in beta]
    assert torch.equal(*gradients)


def test_the_weights_are_those_of_torch_distributions(rows: Tensor) -> None:
    mean, log_variance = network().encode_distribution(rows)
    z, surprise = reparameterise(mean, log_variance, generator()), rows.sum(dim=1)
    prior = Normal(0.0, 1.0).log_prob(z).sum(dim=1)  # type: ignore[no-untyped-call]  # torch's own
    posterior = Normal(mean, (log_variance / 2).exp()).log_prob(z).sum(dim=1)  # type: ignore[no-untyped-call]  # torch's own
    torch.testing.assert_close(
        log_weight(surprise, z, mean=mean, log_variance=log_variance), prior - posterior - surprise
    )


def test_one_importance_sample_gives_the_evidence_lower_bound(rows: Tensor) -> None:
    net, x, draws = network(), rows[:20], 4000
    single = -log_weights(net, GAUSSIAN, x, draws=draws)
    torch.testing.assert_close(negative_bound(-single[:1]), single[0])
    elbo = torch.stack([GAUSSIAN.loss(net, x, generator(seed)).detach() for seed in range(200)])
    scatter = single.mean(dim=1).std() / math.sqrt(draws) + elbo.std() / math.sqrt(len(elbo))
    assert (single.mean() - elbo.mean()).abs() < 4 * scatter


def test_more_importance_samples_tighten_the_bound(rows: Tensor) -> None:
    weights = log_weights(network(), GAUSSIAN, rows[:20], draws=4096)
    bounds = [
        torch.stack([negative_bound(part).mean() for part in torch.split(weights, k)]).mean().item()
        for k in (1, 4, 16, 64)
    ]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[-1]


def test_the_bound_is_exact_where_the_codes_follow_the_posterior() -> None:
    # x = z + noise of deviation s: p(x) is N(0, 1 + s^2) and q is the posterior itself, so all weights agree.
    x, s = torch.tensor([[0.3], [-2.0]]), 0.5
    mean, log_variance = x / (1 + s**2), torch.full((2, 1), math.log(s**2 / (1 + s**2)))
    z = reparameterise(mean, log_variance, generator())
    surprise = -Normal(z, s).log_prob(x).sum(dim=1)  # type: ignore[no-untyped-call]  # torch's own
    evidence = Normal(0.0, math.sqrt(1 + s**2)).log_prob(x).sum(dim=1)  # type: ignore[no-untyped-call]  # torch's own
    weights = log_weight(surprise, z, mean=mean, log_variance=log_variance)
    torch.testing.assert_close(negative_bound(weights[None]), -evidence)


def test_the_importance_weighted_loss_is_the_negative_bound_of_its_draws(rows: Tensor) -> None:
    net, objective = network(), replace(GAUSSIAN, importance_samples=5)
    wanted = negative_bound(log_weights(net, GAUSSIAN, rows, draws=5)).mean()
    loss = objective.loss(net, rows, generator())
    torch.testing.assert_close(loss, wanted)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in net.parameters())


def test_a_learnt_spread_finds_the_error_that_is_left(rows: Tensor) -> None:
    net, objective = network(replace(ARCHITECTURE, learnt_spread=True)), Variational(likelihood="gaussian")
    net.standardise_by(rows, one_scale=True)
    assert net.spread is not None
    assert net.spread.item() == pytest.approx(net.scale.item())
    optimizer = torch.optim.Adam([net.log_spread], lr=0.05) if net.log_spread is not None else None
    assert optimizer is not None
    for _ in range(200):
        optimizer.zero_grad()
        objective.loss(net, rows, generator()).backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
    outputs = net.decode(reparameterise(*net.encode_distribution(rows), generator()))
    assert net.spread.item() == pytest.approx((outputs - rows).square().mean().sqrt().item(), rel=0.02)


def test_a_learnt_spread_of_each_element_has_the_density_of_torch_distributions(rows: Tensor) -> None:
    outputs, spread = torch.rand(rows.shape, generator=generator()), torch.linspace(0.1, 2, 12)
    reference = -Normal(outputs, spread).log_prob(rows).sum(dim=1)  # type: ignore[no-untyped-call]  # torch's own
    surprise = GAUSSIAN.surprise(rows, logits=outputs, outputs=outputs, spread=spread)
    torch.testing.assert_close(surprise, reference)


def test_a_learnt_spread_has_a_floor() -> None:
    net = network(replace(ARCHITECTURE, learnt_spread=True))
    assert net.log_spread is not None
    assert net.spread is not None
    net.log_spread.data.fill_(-50)
    assert net.spread.item() == pytest.approx(math.exp(LEAST_LOG_SPREAD))
    assert network().spread is None


def test_no_reconstruction_has_a_cross_entropy_below_the_floor(rows: Tensor) -> None:
    floor = grey_entropy(rows)
    own = Variational().surprise(rows, logits=rows.logit(), outputs=rows)
    torch.testing.assert_close(own, floor)
    other = (rows + 0.05).clamp(0, 0.999)
    assert (Variational().surprise(rows, logits=other.logit(), outputs=other) > floor).all()
    assert torch.equal(grey_entropy(rows.round()), torch.zeros(200))


@pytest.mark.parametrize(
    ("objective", "architecture", "fault"),
    [
        (Variational(free_bits=-1), ARCHITECTURE, "free bits cannot be negative"),
        (Variational(warm_up=2), ARCHITECTURE, "share of the training"),
        (Variational(importance_samples=0), ARCHITECTURE, "at least 1 importance sample"),
        (Variational(importance_samples=5, beta=2), ARCHITECTURE, "no beta"),
        (Variational(importance_samples=5, warm_up=0.1), ARCHITECTURE, "no warm-up"),
        (Variational(), replace(ARCHITECTURE, code_activation="relu"), "no activation"),
        (Variational(), replace(ARCHITECTURE, top_k=1), "no top_k"),
        (Variational(), replace(ARCHITECTURE, learnt_spread=True), "only a Gaussian likelihood"),
    ],
)
def test_what_cannot_be_is_a_fault(objective: Variational, architecture: Architecture, fault: str) -> None:
    (found,) = objective.faults() + objective.faults_with(architecture)
    assert fault in found
