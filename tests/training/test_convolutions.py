"""Convolutional networks: rows in, rows out, whatever the picture's size, and in the exported program too."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from bundle.manifest import ImageSpec
from bundle.operations import Method
from training.errors import ConfigInvalid
from training.export import Artefact, Program, check_parity, export
from training.layers import Pictures, Rows
from training.networks import Architecture, Autoencoder, build
from training.objectives import Vanilla
from training.scores import ReconstructionError

CONV = Architecture(kind="conv", hidden=(4, 6), latent=3, layer_norm=True)
SHAPES = [(3, 4, 1), (8, 8, 1), (7, 5, 3), (1, 1, 1)]


def network(height: int, width: int, channels: int, *, variational: bool = False) -> Autoencoder:
    image = ImageSpec(height=height, width=width, channels=channels)
    return build(image.size, CONV, variational=variational, range=(0.0, 1.0), seed=0, image=image)


def pictures(size: int, *, n: int = 40) -> Tensor:
    return torch.rand(n, size, generator=Generator().manual_seed(0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [0, 1, 2, 40])
def test_rows_go_in_and_come_out(shape: tuple[int, int, int], n: int) -> None:
    net = network(*shape)
    x = pictures(shape[0] * shape[1] * shape[2], n=n)
    assert net.encode(x).shape == (n, 3)
    assert net.decode(net.encode(x)).shape == x.shape


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_exported_program_takes_any_number_of_rows(shape: tuple[int, int, int], variational: bool) -> None:
    net = network(*shape, variational=variational)
    x = pictures(shape[0] * shape[1] * shape[2])
    net.standardise_by(x, one_scale=True)
    program = Program(net, ReconstructionError(net))
    methods = [method for method in Method if variational or method is not Method.ENCODE_DISTRIBUTION]
    artefact = Artefact(export(program, methods, rows=x[:7]))
    assert check_parity(artefact, program, methods, rows=x) < 1e-5
    for n in (0, 1, 2, 40):
        np.testing.assert_allclose(
            artefact.run(Method.RECONSTRUCT, x[:n].numpy())[0], program.reconstruct(x[:n]), rtol=1e-5, atol=1e-6
        )


def test_a_row_is_a_picture_with_its_channels_last() -> None:
    image = ImageSpec(height=2, width=3, channels=3)
    x = torch.arange(36.0).reshape(2, 18)
    shown = Pictures(image)(x)
    assert shown.shape == (2, 3, 2, 3)
    assert shown[1, 2, 1, 0] == x.reshape(2, 2, 3, 3)[1, 1, 0, 2]
    assert torch.equal(Rows()(shown), x)


def test_a_value_of_the_first_layer_sees_its_neighbourhood_alone() -> None:
    net = build(64, replace(CONV, layer_norm=False), variational=False, range=(0, 1), seed=0, image=_SQUARE)
    x = pictures(64, n=1)
    moved = x.clone()
    moved[0, -1] += 1
    changed = (net.activations(moved)[0] - net.activations(x)[0]).reshape(4, 4, 4).abs().sum(dim=0) > 0
    assert not changed[:3, :3].any()


def test_it_learns() -> None:
    x = pictures(64)[:8]
    net = build(64, CONV, variational=False, range=(0, 1), seed=0, image=_SQUARE)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        loss = Vanilla().loss(net, x, Generator())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]


def test_rows_that_are_no_pictures_are_refused() -> None:
    with pytest.raises(ConfigInvalid, match="rows that are pictures"):
        build(64, CONV, variational=False, range=(0, 1), seed=0)


@pytest.mark.parametrize(
    ("architecture", "fault"),
    [
        (replace(CONV, hidden=()), "at least one hidden layer"),
        (replace(CONV, tied=True), "mlp networks only"),
        (replace(CONV, kind="rnn"), "'rnn'"),  # type: ignore[arg-type]  # wrong on purpose
    ],
)
def test_what_cannot_be_is_a_fault(architecture: Architecture, fault: str) -> None:
    (found,) = architecture.faults()
    assert fault in found


_SQUARE = ImageSpec(height=8, width=8, channels=1)
