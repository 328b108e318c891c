"""Corruptions: their statistics, their bounds, and that they are pure."""

import pytest
import torch
from torch import Generator, Tensor

from training.corruption import Corruption, Mixture, gaussian, masking, salt_and_pepper

N = 400_000
BOUNDS = (0.0, 1.0)
ALL = [
    Corruption(kind="gaussian", strength=0.2),
    Corruption(kind="masking", strength=0.3),
    Corruption(kind="salt_and_pepper", strength=0.3),
]
MIX = Mixture(corruptions=tuple(ALL))


@pytest.fixture
def grey() -> Tensor:
    return torch.full((N // 100, 100), 0.5)


def generator() -> Generator:
    return Generator().manual_seed(3)


def test_gaussian_noise_has_the_moments_that_it_is_asked_for(grey: Tensor) -> None:
    noise = gaussian(grey, generator(), standard_deviation=0.2, bounds=None) - grey
    assert noise.mean().item() == pytest.approx(0, abs=4 * 0.2 / N**0.5)
    assert noise.std().item() == pytest.approx(0.2, abs=4 * 0.2 / (2 * N) ** 0.5)
    assert noise.pow(4).mean().item() / 0.2**4 == pytest.approx(3, abs=4 * (96 / N) ** 0.5)


def test_gaussian_noise_is_clipped_to_the_bounds_and_only_then(grey: Tensor) -> None:
    clipped = gaussian(grey, generator(), standard_deviation=0.5, bounds=BOUNDS)
    free = gaussian(grey, generator(), standard_deviation=0.5, bounds=None)
    assert free.min() < 0 < 1 < free.max()
    assert torch.equal(clipped, free.clamp(0, 1))


def test_masking_zeroes_at_the_rate_and_leaves_the_rest(grey: Tensor) -> None:
    masked = masking(grey, generator(), fraction=0.3)
    assert (masked == 0).float().mean().item() == pytest.approx(0.3, abs=4 * (0.21 / N) ** 0.5)
    assert ((masked == 0) | (masked == 0.5)).all()


def test_salt_and_pepper_are_equally_frequent_ends_of_the_range(grey: Tensor) -> None:
    spoilt = salt_and_pepper(grey, generator(), fraction=0.3, bounds=(-1.0, 2.0))
    for end in (-1, 2):
        assert (spoilt == end).float().mean().item() == pytest.approx(0.15, abs=4 * (0.1275 / N) ** 0.5)
    assert ((spoilt == -1) | (spoilt == 2) | (spoilt == 0.5)).all()


def test_a_row_of_a_mix_is_corrupted_in_one_way_and_each_way_is_as_likely(grey: Tensor) -> None:
    x = MIX(grey, generator(), bounds=BOUNDS)
    masked = (x == 0).any(dim=1) & (x != 1).all(dim=1) & ((x == 0) | (x == 0.5)).all(dim=1)
    spoilt = (x == 0).any(dim=1) & (x == 1).any(dim=1) & ((x == 0) | (x == 0.5) | (x == 1)).all(dim=1)
    noisy = ((x != 0) & (x != 0.5) & (x != 1)).float().mean(dim=1) > 0.9
    assert (masked.int() + spoilt.int() + noisy.int() == 1).all()
    for kind in (masked, spoilt, noisy):
        assert kind.float().mean().item() == pytest.approx(1 / 3, abs=4 * (2 / 9 / len(x)) ** 0.5)


def test_a_mix_needs_a_range_where_one_of_its_corruptions_does() -> None:
    assert MIX.needs_range
    assert not Mixture(corruptions=tuple(ALL[:2])).needs_range


@pytest.mark.parametrize(
    ("corruptions", "fault"),
    [((ALL[0],), "at least two"), ((ALL[0], Corruption(kind="masking", strength=2)), "fraction between 0 and 1")],
)
def test_a_mix_that_cannot_be_is_a_fault(corruptions: tuple[Corruption, ...], fault: str) -> None:
    assert fault in Mixture(corruptions=corruptions).faults()[0]


@pytest.mark.parametrize("corruption", [*ALL, MIX], ids=lambda corruption: getattr(corruption, "kind", "mix"))
def test_a_corruption_is_a_function_of_rows_and_generator_alone(corruption: Corruption | Mixture) -> None:
    x = torch.rand(50, 20, generator=generator())
    before, state = x.clone(), torch.get_rng_state()
    first, again = (corruption(x, generator(), bounds=BOUNDS) for _ in range(2))
    other = corruption(x, Generator().manual_seed(4), bounds=BOUNDS)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == x.shape
    assert 0 <= first.min() <= first.max() <= 1


def test_elements_are_hit_independently_of_each_other() -> None:
    masked = masking(torch.ones(N // 2, 2), generator(), fraction=0.3) == 0
    both = (masked[:, 0] & masked[:, 1]).float().mean().item()
    assert both == pytest.approx(0.09, abs=4 * (0.09 * 0.91 / (N // 2)) ** 0.5)


def test_salt_and_pepper_without_a_range_is_refused() -> None:
    with pytest.raises(ValueError, match="declared range"):
        ALL[2](torch.zeros(1, 1), generator(), bounds=None)


@pytest.mark.parametrize(
    ("corruption", "fault"),
    [
        (Corruption(kind="gaussian", strength=0), "above 0"),
        (Corruption(kind="masking", strength=1), "fraction between 0 and 1"),
        (Corruption(kind="salt_and_pepper", strength=-0.1), "fraction between 0 and 1"),
    ],
)
def test_a_strength_that_cannot_be_is_a_fault(corruption: Corruption, fault: str) -> None:
    assert fault in corruption.faults()[0]


@pytest.mark.parametrize("corruption", [*ALL, MIX], ids=lambda corruption: getattr(corruption, "kind", "mix"))
def test_a_sensible_corruption_has_no_fault(corruption: Corruption | Mixture) -> None:
    assert corruption.faults() == []
