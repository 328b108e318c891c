"""Sparse autoencoders: exact zeros by selection, small activity by penalty."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from training.layers import TopK, UnitColumns, top_k
from training.networks import Architecture, Autoencoder, build
from training.objectives import KSparse, Objective, SparsePenalty

K_SPARSE = Architecture(hidden=(), latent=20, top_k=4)
SIGMOID = Architecture(hidden=(), latent=16, code_activation="sigmoid")
RELU = Architecture(hidden=(), latent=24, code_activation="relu", unit_columns=True, output="linear")


def network(architecture: Architecture) -> Autoencoder:
    return build(12, architecture, variational=False, range=(0.0, 1.0), seed=0)


def trained(architecture: Architecture, objective: Objective, rows: Tensor, *, steps: int, rate: float) -> Autoencoder:
    net, draws = network(architecture), Generator().manual_seed(0)
    net.standardise_by(rows, one_scale=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        objective.loss(net, rows, draws).backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
    return net.requires_grad_(False)


def test_at_most_k_values_of_a_code_are_not_zero_and_they_are_the_largest(rows: Tensor) -> None:
    net = network(K_SPARSE)
    dense, sparse = net.code(net.hidden(rows)), net.encode(rows)
    assert ((sparse != 0).sum(dim=1) == 4).all()
    assert torch.equal(sparse[sparse != 0], dense[sparse != 0])
    dropped = dense.abs().masked_fill(sparse != 0, 0).amax(dim=1)
    assert (dense.abs().masked_fill(sparse == 0, torch.inf).amin(dim=1) >= dropped).all()


def test_equal_magnitudes_do_not_bring_more_than_k() -> None:
    z = torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0], [0.0, 0.0, 0.0, 0.0, 3.0]])
    assert (TopK(2)(z) != 0).sum(dim=1).tolist() == [2, 1]


def test_no_gradient_flows_through_what_was_dropped() -> None:
    z = torch.randn(50, 20, generator=Generator().manual_seed(0), requires_grad=True)
    kept = TopK(4)(z)
    weights = torch.randn(50, 20, generator=Generator().manual_seed(1))
    (kept * weights).sum().backward()
    assert z.grad is not None
    assert (z.grad[kept == 0] == 0).all()
    assert torch.equal(z.grad[kept != 0], weights[kept != 0])


def test_the_margin_is_that_between_the_last_kept_and_the_first_dropped(rows: Tensor) -> None:
    net = network(K_SPARSE)
    magnitudes = net.code(net.hidden(rows)).abs().sort(dim=1, descending=True).values
    torch.testing.assert_close(net.margin(rows), 1 - magnitudes[:, 4] / magnitudes[:, 3])
    assert net.margin(rows).isfinite().all()


def test_k_falls_from_all_values_to_its_own_while_it_warms_up(rows: Tensor) -> None:
    net, objective = network(K_SPARSE), KSparse(warm_up=0.5)
    for progress, k in ((0.0, 20), (0.25, 12), (0.5, 4), (1.0, 4)):
        wanted = (net.decode(top_k(net.dense(rows), k)) - rows).square().mean()
        torch.testing.assert_close(objective.loss(net, rows, Generator(), progress=progress), wanted)


def test_a_network_that_keeps_everything_is_refused(rows: Tensor) -> None:
    with pytest.raises(TypeError, match="top_k"):
        KSparse().loss(network(SIGMOID), rows, Generator())


@pytest.mark.parametrize("top_k", [None, 20])
def test_the_margin_is_infinite_where_nothing_is_dropped(rows: Tensor, top_k: int | None) -> None:
    assert network(Architecture(hidden=(), latent=20, top_k=top_k)).margin(rows).isinf().all()


def test_a_kl_penalty_brings_the_mean_activation_to_its_target(rows: Tensor) -> None:
    objective = SparsePenalty(penalty="kl", target=0.1, weights=(1.0,))
    net = trained(SIGMOID, objective, rows, steps=300, rate=0.05)
    activity = net.encode(rows).mean(dim=0)
    assert activity.mean().item() == pytest.approx(0.1, rel=0.1)
    assert ((activity - 0.1).abs() < 0.02).all()
    before = trained(SIGMOID, SparsePenalty(penalty="kl", target=0.1, weights=(1e-6,)), rows, steps=300, rate=0.05)
    assert before.encode(rows).mean().item() > 0.2


def test_an_l1_penalty_silences_most_units_for_most_rows(rows: Tensor) -> None:
    net = trained(RELU, SparsePenalty(penalty="l1", target=0.0, weights=(0.02,)), rows, steps=500, rate=0.015)
    codes = net.encode(rows)
    assert (codes < 0.01 * codes.amax(dim=0)).float().mean() > 0.5
    (layer,) = net.decoder
    assert isinstance(layer, UnitColumns)
    torch.testing.assert_close(layer.columns.norm(dim=0), torch.ones(24))
    assert (net.reconstruct(rows) - rows).square().mean() < 0.25 * rows.var(dim=0).mean()


def test_unit_columns_are_what_the_decoder_computes_with() -> None:
    net = network(RELU)
    (layer,) = net.decoder
    assert isinstance(layer, UnitColumns)
    one = torch.eye(24)
    torch.testing.assert_close((net.logits(one) - net.logits(torch.zeros(1, 24))).norm(dim=1), torch.ones(24))
    layer.weight.data *= 1000
    torch.testing.assert_close((net.logits(one) - net.logits(torch.zeros(1, 24))).norm(dim=1), torch.ones(24))


REFERENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda r: (r - 0.3).abs(),
    "l2": lambda r: (r - 0.3) ** 2,
    "kl": lambda r: torch.distributions.kl_divergence(
        torch.distributions.Bernoulli(torch.full_like(r, 0.3)), torch.distributions.Bernoulli(r)
    ),
}


@pytest.mark.parametrize("penalty", ["kl", "l1", "l2"])
def test_each_layer_has_its_own_weight(rows: Tensor, penalty: str) -> None:
    architecture = Architecture(hidden=(9, 7), latent=5, activation="sigmoid", code_activation="sigmoid", tied=True)
    net = network(architecture)
    objective = SparsePenalty(penalty=penalty, target=0.3, weights=(0.0, 2.0, 3.0))  # type: ignore[arg-type]  # each of them
    assert objective.faults() + objective.faults_with(architecture) == []
    layers = net.activations(rows)
    assert [tuple(layer.shape) for layer in layers] == [(200, 9), (200, 7), (200, 5)]
    d = [REFERENCES[penalty](layer.mean(dim=0)).mean() for layer in layers]
    wanted = (net.reconstruct(rows) - rows).square().mean() + 2 * d[1] + 3 * d[2]
    torch.testing.assert_close(objective.loss(net, rows, Generator()), wanted)


@pytest.mark.parametrize(
    ("objective", "architecture", "fault"),
    [
        (KSparse(), SIGMOID, "top_k"),
        (SparsePenalty(penalty="kl", target=0.1, weights=(1.0,)), RELU, "sigmoid units"),
        (SparsePenalty(penalty="kl", target=0.1, weights=(1.0, 1.0)), SIGMOID, "1 weights"),
        (SparsePenalty(penalty="l1", target=0.1, weights=(1.0,)), SIGMOID, "an L1 penalty needs unit columns"),
        (SparsePenalty(penalty="kl", target=1.0, weights=(1.0,)), SIGMOID, "between 0 and 1"),
        (SparsePenalty(penalty="l2", target=-1.0, weights=(1.0,)), RELU, "cannot be negative"),
        (SparsePenalty(penalty="l2", target=0.1, weights=(0.0,)), RELU, "at least one lies above 0"),
        (SparsePenalty(penalty="l0", target=0.1, weights=(1.0,)), RELU, "'l0'"),  # type: ignore[arg-type]  # wrong on purpose
        (KSparse(warm_up=-1), K_SPARSE, "share of the training"),
        (KSparse(error="hinge"), K_SPARSE, "'hinge'"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_what_cannot_be_is_a_fault(objective: Objective, architecture: Architecture, fault: str) -> None:
    (found,) = objective.faults() + objective.faults_with(architecture)
    assert fault in found
