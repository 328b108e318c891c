"""A row of docs/quality.md: a claim with its goal, and what came of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Check", "Curve", "Outcome", "Reference", "Row"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A figure held against a bound: `at_most` or, if not, at least. `figures` has one value for each seed, and their
    mean counts."""

    what: str
    figures: tuple[float, ...]
    bound: float
    at_most: bool
    unit: str = ""

    @property
    def mean(self) -> float:
        """What counts."""
        return math.fsum(self.figures) / len(self.figures)

    @property
    def holds(self) -> bool:
        """True where the goal is reached; a figure that is not a number reaches none."""
        return self.mean <= self.bound if self.at_most else self.mean >= self.bound


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What somebody else reaches. `measured` here, in the same run, or else published; `source` says where."""

    name: str
    value: float
    source: str
    measured: bool


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A line of the row's plot: y over x, all curves of a row in one plot."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a row has measured. `table` is a header and lines of cells; `notes` are sentences: what was tried, what was
    learnt. `axes` are the labels of the plot's x and y."""

    setting: str
    seeds: tuple[int, ...]
    checks: tuple[Check, ...]
    references: tuple[Reference, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    curves: tuple[Curve, ...] = ()
    axes: tuple[str, str] = ("", "")
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """`name` for the command line, `title` and `published` for the page; `measure(full)` does the work: the complete
    tables where `full`."""

    name: str
    title: str
    published: str
    goal: str
    measure: Callable[[bool], Outcome]
