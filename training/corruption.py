"""Corruptions as pure functions of rows and a generator (Vincent et al. 2010, JMLR 11, section 3.3)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

__all__ = ["Corruption", "Mixture", "Range", "gaussian", "masking", "salt_and_pepper"]

Range = tuple[float, float] | None


def gaussian(x: Tensor, generator: Generator, *, standard_deviation: float, bounds: Range) -> Tensor:
    """x + standard_deviation * N(0, I), clipped to `bounds` when there are any. Shape (n, d) as x, which stays."""
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    corrupted = x + standard_deviation * noise
    return corrupted if bounds is None else corrupted.clamp(*bounds)


def masking(x: Tensor, generator: Generator, *, fraction: float) -> Tensor:
    """x with each element set to 0 with probability `fraction`, independently. Shape (n, d) as x, which stays."""
    return x.masked_fill(_uniform(x, generator) < fraction, 0)


def salt_and_pepper(x: Tensor, generator: Generator, *, fraction: float, bounds: tuple[float, float]) -> Tensor:
    """x with each element set to the lowest or the highest value, each with probability `fraction` / 2.

    Shape (n, d) as x, which stays.
    """
    draw = _uniform(x, generator)
    low, high = bounds
    return x.masked_fill(draw < fraction / 2, low).masked_fill(draw >= 1 - fraction / 2, high)


def _uniform(x: Tensor, generator: Generator) -> Tensor:
    return torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One of the corruptions with its strength: the standard deviation in input units, or the fraction of elements."""

    kind: Literal["gaussian", "masking", "salt_and_pepper"]
    strength: float

    def __call__(self, x: Tensor, generator: Generator, *, bounds: Range) -> Tensor:
        """x (n, d) corrupted; `bounds` are the lowest and highest value that a row can have, if there are such.

        Raises ValueError when salt and pepper has no bounds to go to.
        """
        match self.kind:
            case "gaussian":
                return gaussian(x, generator, standard_deviation=self.strength, bounds=bounds)
            case "masking":
                return masking(x, generator, fraction=self.strength)
            case "salt_and_pepper":
                if bounds is None:
                    raise ValueError("salt and pepper needs data with a declared range")
                return salt_and_pepper(x, generator, fraction=self.strength, bounds=bounds)

    @property
    def needs_range(self) -> bool:
        """True when it cannot do without data with a declared range."""
        return self.kind == "salt_and_pepper"

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        match self.kind:
            case "gaussian":
                return [] if self.strength > 0 else ["a Gaussian corruption needs a strength above 0"]
            case "masking" | "salt_and_pepper":
                return [] if 0 < self.strength < 1 else [f"the strength of {self.kind} is a fraction between 0 and 1"]
            case _:
                return [f"no corruption is called {self.kind!r}; there are gaussian, masking and salt_and_pepper"]


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Several corruptions, of which every row draws one, each as likely as the others."""

    corruptions: tuple[Corruption, ...]

    def __call__(self, x: Tensor, generator: Generator, *, bounds: Range) -> Tensor:
        """x (n, d), each row corrupted by one of them; `bounds` as for a single one.

        Raises ValueError when salt and pepper has no bounds to go to.
        """
        drawn = torch.randint(len(self.corruptions), (len(x), 1), generator=generator, device=x.device)
        corrupted = x
        for index, corruption in enumerate(self.corruptions):
            corrupted = torch.where(drawn == index, corruption(x, generator, bounds=bounds), corrupted)
        return corrupted

    @property
    def needs_range(self) -> bool:
        """True when one of them cannot do without data with a declared range."""
        return any(corruption.needs_range for corruption in self.corruptions)

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        found = [fault for corruption in self.corruptions for fault in corruption.faults()]
        return found if len(self.corruptions) > 1 else [*found, "a mix needs at least two corruptions"]
