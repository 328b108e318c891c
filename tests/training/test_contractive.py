"""The contractive penalty against torch.func, its estimate, and what it bounds."""

from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor
from torch.func import jacrev

from training.networks import Architecture, Autoencoder, build
from training.objectives import Contractive
from training.objectives.contractive import closed_form, estimated, exact

ONE_LAYER = Architecture(hidden=(), latent=5, code_activation="sigmoid", tied=True)
DEEP = Architecture(hidden=(9, 7), latent=5, activation="silu", code_activation="tanh", tied=True)


def network(architecture: Architecture, rows: Tensor) -> Autoencoder:
    net = build(12, architecture, variational=False, range=(0.0, 1.0), seed=0)
    net.standardise_by(rows, one_scale=False)
    return net


def reference(net: Autoencoder, rows: Tensor) -> Tensor:
    """One row and one Jacobian at a time."""
    return torch.stack([jacrev(lambda x: net.encode(x[None])[0])(row).square().sum() for row in rows])


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "linear"])
def test_the_closed_form_is_the_norm_of_the_jacobian(rows: Tensor, activation: str) -> None:
    net = network(replace(ONE_LAYER, code_activation=activation), rows)
    torch.testing.assert_close(closed_form(net, rows), reference(net, rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", [ONE_LAYER, DEEP, replace(ONE_LAYER, top_k=2)])
def test_differentiation_gives_the_norm_of_the_jacobian(rows: Tensor, architecture: Architecture) -> None:
    net = network(architecture, rows)
    torch.testing.assert_close(exact(net, rows), reference(net, rows), rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(exact(net, rows), reference(net, rows), rtol=1e-5, atol=1e-5)


def test_the_estimate_is_unbiased(rows: Tensor) -> None:
    net = network(DEEP, rows)
    row, probes = rows[:1], 4000
    draws = estimated(net, row.expand(probes, -1), Generator().manual_seed(0), probes=1).detach()
    wanted = exact(net, row).item()
    assert draws.std() > 0.05 * wanted
    assert draws.mean().item() == pytest.approx(wanted, abs=4 * draws.std().item() / probes**0.5)


def test_more_probes_scatter_less(rows: Tensor) -> None:
    net = network(DEEP, rows)
    row = rows[:1].expand(500, -1)
    one, many = (estimated(net, row, Generator().manual_seed(0), probes=probes).std() for probes in (1, 16))
    assert (many / one).item() == pytest.approx(0.25, rel=0.3)


@pytest.mark.parametrize("architecture", [ONE_LAYER, DEEP])
def test_small_steps_move_a_code_by_at_most_the_norm(rows: Tensor, architecture: Architecture) -> None:
    net = network(architecture, rows).double()
    x = rows.double()
    step = 1e-5 * torch.nn.functional.normalize(torch.randn(x.shape, generator=Generator().manual_seed(0)).double())
    moved = (net.encode(x + step) - net.encode(x)).norm(dim=1)
    assert (moved <= exact(net, x).sqrt() * 1e-5 * (1 + 1e-4)).all()


@pytest.mark.parametrize("architecture", [ONE_LAYER, DEEP])
def test_the_penalty_reaches_the_weights_and_lowers_the_norm(rows: Tensor, architecture: Architecture) -> None:
    norms = []
    for weight in (1e-9, 0.1):
        net, draws = network(architecture, rows), Generator().manual_seed(0)
        objective = Contractive(weight=weight)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            objective.loss(net, rows, draws).backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
        norms.append(exact(net, rows).mean().item())
    assert norms[1] < 0.5 * norms[0]


@pytest.mark.parametrize(("architecture", "way"), [(ONE_LAYER, closed_form), (DEEP, exact)])
def test_the_loss_is_the_error_and_the_weighted_mean_norm(
    rows: Tensor, architecture: Architecture, way: object
) -> None:
    assert callable(way)
    net = network(architecture, rows)
    wanted = (net.reconstruct(rows) - rows).square().mean() + 0.3 * way(net, rows).mean()
    torch.testing.assert_close(Contractive(weight=0.3).loss(net, rows, Generator()), wanted)


def test_the_estimate_draws_from_the_generator_alone(rows: Tensor) -> None:
    net, state = network(DEEP, rows), torch.get_rng_state()
    objective = Contractive(weight=0.3, jacobian="estimate")
    first, again, other = (objective.loss(net, rows, Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_scaling_the_encoder_of_tied_weights_scales_the_decoder(rows: Tensor) -> None:
    net = network(replace(DEEP, activation="relu", code_activation="linear"), rows)
    before = net.logits(torch.ones(1, 5)) - net.logits(torch.zeros(1, 5))
    net.code.weight.data *= 0.5
    after = net.logits(torch.ones(1, 5)) - net.logits(torch.zeros(1, 5))
    torch.testing.assert_close(after, 0.5 * before)


@pytest.mark.parametrize(
    ("objective", "architecture", "fault"),
    [
        (Contractive(weight=0), ONE_LAYER, "above 0"),
        (Contractive(weight=1, probes=0), ONE_LAYER, "at least 1 probe"),
        (Contractive(weight=1, jacobian="guess"), ONE_LAYER, "'guess'"),  # type: ignore[arg-type]  # wrong on purpose
        (Contractive(weight=1), replace(ONE_LAYER, tied=False), "tied weights"),
        (Contractive(weight=1), replace(DEEP, layer_norm=True), "layer normalisation"),
    ],
)
def test_what_cannot_be_is_a_fault(objective: Contractive, architecture: Architecture, fault: str) -> None:
    (found,) = objective.faults() + objective.faults_with(architecture)
    assert fault in found


def test_the_closed_form_of_a_deep_encoder_is_refused(rows: Tensor) -> None:
    with pytest.raises(TypeError, match="one linear layer"):
        closed_form(network(DEEP, rows), rows)
