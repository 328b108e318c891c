"""Clusters: the distance from the nearest one, in its own shape."""

import pytest
import torch
from torch import Generator, Tensor

from training.clusters import MOST_CLUSTERS, Clusters


def groups(*centres: float, width: int = 3, count: int = 400) -> Tensor:
    """`count` vectors around each centre; those of odd groups vary ten times as much along the first value."""
    generator = Generator().manual_seed(0)
    parts = [torch.randn(count, width, generator=generator) + centre for centre in centres]
    for part, centre in zip(parts[1::2], centres[1::2], strict=True):
        part[:, 0] = (part[:, 0] - centre) * 10 + centre
    return torch.cat(parts)


def test_what_it_was_fitted_to_has_about_as_many_units_of_distance_as_values() -> None:
    clusters = Clusters()
    clusters.fit(groups(0.0))
    assert 1 < clusters(groups(0.0)).mean().item() < 6


def test_between_clusters_is_far_though_it_is_the_mean_of_all() -> None:
    clusters = Clusters()
    vectors = groups(-50.0, 50.0)
    clusters.fit(vectors)
    assert clusters(vectors.mean(dim=0, keepdim=True)).item() > 30 * clusters(vectors).mean().item()


def test_a_cluster_counts_in_its_own_deviations() -> None:
    clusters = Clusters()
    clusters.fit(groups(-100.0, 100.0))
    step = torch.tensor([[20.0, 0.0, 0.0]])
    narrow, wide = clusters(step - 100), clusters(step + 100)
    assert narrow.item() > 4 * wide.item()


def test_few_vectors_make_few_clusters_and_many_at_most_thirty() -> None:
    few, many = Clusters(), Clusters()
    few.fit(groups(0.0, count=47))
    many.fit(groups(0.0, count=5_000))
    assert (few.shape, many.shape) == ((1, 3), (MOST_CLUSTERS, 3))


@pytest.mark.parametrize("vectors", [torch.ones(100, 3), torch.ones(1, 3)])
def test_vectors_that_are_all_the_same_have_finite_distances(vectors: Tensor) -> None:
    clusters = Clusters()
    clusters.fit(vectors)
    assert clusters(torch.cat([vectors, vectors + 1])).isfinite().all()
