"""Whitening: the distance it stands for, and how it is kept finite, small and apart from other rows."""

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from training.whitening import MAX_RANK, Whitening


def vectors(count: int, width: int) -> Tensor:
    generator = Generator().manual_seed(0)
    mixed = torch.randn(count, width, generator=generator) @ torch.randn(width, width, generator=generator)
    return mixed.div(width**0.5).add(3)


@pytest.mark.parametrize("each_scaled", [True, False])
def test_what_it_was_fitted_to_has_as_many_units_of_distance_as_values(each_scaled: bool) -> None:
    whitening = Whitening(each_scaled=each_scaled)
    whitening.fit(vectors(500, 4))
    assert whitening(vectors(500, 4)).mean().item() == pytest.approx(4, rel=1e-3)


def test_a_value_that_never_varied_counts_in_its_own_unit() -> None:
    whitening = Whitening(each_scaled=True)
    fixed = torch.cat([vectors(500, 2), torch.full((500, 1), 0.1)], dim=1)
    whitening.fit(fixed)
    moved = fixed[:1] + torch.tensor([0.0, 0.0, 1.0])
    assert 1 <= (whitening(moved) - whitening(fixed[:1])).item() < 1e4


def test_vectors_that_are_all_the_same_have_a_finite_distance() -> None:
    whitening = Whitening(each_scaled=False)
    whitening.fit(torch.ones(10, 3))
    assert torch.equal(whitening(torch.ones(2, 3)), torch.zeros(2))
    assert whitening.matrix.isfinite().all()


@pytest.mark.parametrize("count", [20, 700])
def test_fewer_vectors_than_values_or_more_the_distance_is_that_of_the_covariance(count: int) -> None:
    x = vectors(count, 60)
    whitening = Whitening(each_scaled=False)
    whitening.fit(x)
    exact = x.double().numpy()
    _, singular, directions = np.linalg.svd(exact - exact.mean(axis=0), full_matrices=False)
    spread = np.maximum(singular / count**0.5, singular[0] / count**0.5 * 1e-3**0.5)
    wanted = (((exact - exact.mean(axis=0)) @ directions.T / spread) ** 2).sum(axis=1)
    np.testing.assert_allclose(whitening(x), wanted, rtol=1e-3)


@pytest.mark.parametrize(("width", "rank"), [(300, MAX_RANK), (8192, 128)])
def test_wide_vectors_leave_a_small_matrix(width: int, rank: int) -> None:
    whitening = Whitening(each_scaled=False)
    whitening.fit(torch.rand(280, width, generator=Generator().manual_seed(0)))
    assert whitening.matrix.shape == (width, rank)
    assert whitening.matrix.numel() <= 2**20


def test_the_leading_directions_are_kept() -> None:
    x = torch.randn(400, 300, generator=Generator().manual_seed(0)) * torch.linspace(10, 0.1, 300)
    whitening = Whitening(each_scaled=False)
    whitening.fit(x)
    along = torch.eye(300)[[0, 299]] + whitening.mean
    first, last = whitening(along).tolist()
    assert last < first / 2
