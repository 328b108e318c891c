"""Trimming: rows that do not belong lose their pull."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from training.config import Fitting
from training.fit import fit
from training.networks import Architecture, Autoencoder, build
from training.objectives import Vanilla
from training.trimming import trimmed

SETTINGS = Fitting(epochs=40, batch_size=64, learning_rate=0.01, threads=1)


def network() -> Autoencoder:
    linear = Architecture(hidden=(), latent=1, standardise=False, output="linear")
    return build(6, linear, variational=False, range=None, seed=0)


def test_the_worst_rows_go_and_the_others_keep_their_order() -> None:
    net = network()
    x = torch.randn(50, 6, generator=Generator().manual_seed(0))
    errors = (net.reconstruct(x) - x).square().mean(dim=1)
    kept = trimmed(net, x, share=0.19)
    worst = set(errors.topk(9).indices.tolist())
    assert torch.equal(kept, x[[row for row in range(50) if row not in worst]])


@pytest.mark.parametrize("share", [0, 0.01])
def test_less_than_a_row_is_none(share: float) -> None:
    x = torch.ones(50, 6)
    assert trimmed(network(), x, share=share) is x


def test_no_gradient_flows_through_the_choice() -> None:
    net = network()
    x = torch.randn(10, 6)
    assert not trimmed(net, x, share=0.5).requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.fixture
def contaminated() -> tuple[Tensor, Tensor]:
    """600 rows along one direction, of which the last 60 lie along another, far out; and 200 that belong."""
    generator = Generator().manual_seed(3)
    belongs, foreign = torch.linalg.qr(torch.randn(6, 2, generator=generator)).Q.T

    def along(direction: Tensor, count: int, scale: float) -> Tensor:
        spread = scale * torch.randn(count, 1, generator=generator)
        return spread * direction + 0.05 * torch.randn(count, 6, generator=generator)

    return torch.cat([along(belongs, 540, 1), along(foreign, 60, 6)]), along(belongs, 200, 1)


def test_planted_outliers_no_longer_decide_what_is_learnt(contaminated: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    train, clean = contaminated
    errors = {}
    for trim in (0.0, 0.15):
        net = network()
        settings = replace(SETTINGS, trim=trim)
        fit(net, Vanilla(), settings=settings, train=train, validation=train, seed=0, folder=tmp_path / str(trim))
        with torch.no_grad():
            errors[trim] = (net.reconstruct(clean) - clean).square().mean().item()
    variance = clean.square().mean().item()
    assert errors[0.0] > 0.5 * variance
    assert errors[0.15] < 0.1 * variance
