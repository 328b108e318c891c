"""Networks: what lies between input units and the first layer, and what a seed decides."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from bundle.operations import Method
from training.export import Artefact, Program, check_parity, export
from training.networks import Architecture, VariationalAutoencoder, build
from training.scores import ReconstructionError

PLAIN = Architecture(hidden=(8,), latent=2)


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    state = torch.get_rng_state()
    first, again, other = (build(5, PLAIN, variational=True, range=(0, 1), seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.code.weight, other.code.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_network_is_wide_narrow_wide(rows: Tensor) -> None:
    net = build(12, replace(PLAIN, hidden=(9, 5)), variational=False, range=(0, 1), seed=0)
    assert net.encode(rows).shape == (200, 2)
    assert net.decode(net.encode(rows)).shape == (200, 12)
    assert [tuple(weight.shape) for weight in net.parameters() if weight.ndim == 2] == [
        (9, 12),
        (5, 9),
        (2, 5),
        (5, 2),
        (9, 5),
        (12, 9),
    ]


@pytest.mark.parametrize("variational", [True, False])
def test_reconstruction_is_decoding_of_the_code(rows: Tensor, variational: bool) -> None:
    net = build(12, PLAIN, variational=variational, range=(0, 1), seed=0)
    assert torch.equal(net.reconstruct(rows), net.decode(net.encode(rows)))


def test_the_code_of_a_variational_network_is_the_mean(rows: Tensor) -> None:
    net = build(12, PLAIN, variational=True, range=(0, 1), seed=0)
    assert isinstance(net, VariationalAutoencoder)
    assert torch.equal(net.encode(rows), net.encode_distribution(rows)[0])


def test_rows_far_from_all_data_have_a_finite_variance() -> None:
    net = build(12, PLAIN, variational=True, range=(0, 1), seed=0)
    assert isinstance(net, VariationalAutoencoder)
    _, log_variance = net.encode_distribution(torch.full((1, 12), 1e6))
    assert log_variance.exp().isfinite().all()


def test_a_sigmoid_output_stays_within_the_declared_range() -> None:
    net = build(12, PLAIN, variational=False, range=(-3.0, 5.0), seed=0)
    decoded = net.decode(1e4 * torch.randn(100, 2, generator=Generator().manual_seed(0)))
    assert decoded.min().item() == pytest.approx(-3)
    assert decoded.max().item() == pytest.approx(5)


def test_one_scale_for_pixels_and_one_for_each_of_other_elements(rows: Tensor) -> None:
    rows = torch.cat([100 * rows + 7, torch.full((200, 1), 4.0)], dim=1)
    net = build(13, PLAIN, variational=False, range=None, seed=0)
    net.standardise_by(rows, one_scale=False)
    standardised = (rows - net.offset) / net.scale
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(13), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardised[:, :12].std(dim=0, correction=0), torch.ones(12), atol=1e-4, rtol=0)
    assert (standardised[:, 12] == 0).all()
    net.standardise_by(rows, one_scale=True)
    assert net.scale.ndim == 0
    assert ((rows - net.offset) / net.scale).square().mean().item() == pytest.approx(1, rel=1e-4)


def test_a_linear_output_is_in_input_units_again(rows: Tensor) -> None:
    linear = Architecture(hidden=(), latent=2, output="linear")
    net = build(12, linear, variational=False, range=None, seed=0)
    net.standardise_by(1000 * rows, one_scale=False)
    assert torch.equal(net.output(torch.zeros(1, 12))[0], net.offset)
    assert torch.equal(net.output(torch.ones(1, 12))[0], net.offset + net.scale)


def test_layer_normalisation_and_activation_take_part(rows: Tensor) -> None:
    kinds = [
        PLAIN,
        replace(PLAIN, layer_norm=True),
        replace(PLAIN, activation="silu"),
        replace(PLAIN, activation="tanh"),
    ]
    outputs = [build(12, kind, variational=False, range=(0, 1), seed=0).reconstruct(rows) for kind in kinds]
    assert all(not torch.equal(a, b) for i, a in enumerate(outputs) for b in outputs[:i])


def test_reading_layers_one_by_one_ends_in_the_code(rows: Tensor) -> None:
    net = build(12, replace(PLAIN, hidden=(9, 5), top_k=1), variational=False, range=(0, 1), seed=0)
    layers = net.activations(rows)
    assert [layer.shape for layer in layers] == [(200, 9), (200, 5), (200, 2)]
    assert torch.equal(layers[1], net.hidden(rows))
    assert torch.equal(layers[2], net.encode(rows))


def test_tied_weights_are_one_parameter_and_the_decoder_s_is_its_transpose(rows: Tensor) -> None:
    tied = replace(PLAIN, hidden=(9, 5), tied=True)
    net = build(12, tied, variational=False, range=(0, 1), seed=0)
    assert [tuple(weight.shape) for weight in net.parameters() if weight.ndim == 2] == [(9, 12), (5, 9), (2, 5)]
    linear = build(12, Architecture(hidden=(), latent=2, tied=True), variational=False, range=(0, 1), seed=0)
    torch.testing.assert_close(linear.logits(torch.eye(2)), linear.code.weight)
    net.load_state_dict(deepcopy(net.state_dict()))
    net.reconstruct(rows).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
    assert all(weight.grad is not None for weight in net.parameters())


@pytest.mark.parametrize(
    "kind", [replace(PLAIN, tied=True), replace(PLAIN, unit_columns=True), replace(PLAIN, top_k=1)]
)
def test_what_a_network_can_have_is_exported(rows: Tensor, kind: Architecture) -> None:
    net = build(12, kind, variational=False, range=(0, 1), seed=0)
    program = Program(net, ReconstructionError(net))
    methods = [Method.ENCODE, Method.DECODE, Method.RECONSTRUCT]
    artefact = Artefact(export(program, methods, rows=rows[:5]))
    assert check_parity(artefact, program, methods, rows=rows) < 1e-5


@pytest.mark.parametrize(
    ("architecture", "narrowest"),
    [
        (Architecture(hidden=(9, 5), latent=7), 5),
        (Architecture(hidden=(), latent=20), 20),
        (Architecture(kind="conv", hidden=(4,), latent=20), 20),
    ],
)
def test_the_narrowest_place_is_known(architecture: Architecture, narrowest: int) -> None:
    assert architecture.narrowest == narrowest


def test_the_linear_autoencoder_finds_the_principal_components(rows: Tensor) -> None:
    linear = Architecture(hidden=(), latent=2, output="linear", standardise=False)
    net = build(12, linear, variational=False, range=None, seed=0)
    net.standardise_by(rows, one_scale=True)
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        loss = (net.reconstruct(rows) - rows).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        return loss.item()

    optimizer.step(closure)  # type: ignore[no-untyped-call]  # torch's own
    singular = torch.linalg.svdvals(rows - rows.mean(dim=0))
    best = singular[2:].square().sum() / rows.numel()
    assert closure() == pytest.approx(best.item(), rel=0.01)
