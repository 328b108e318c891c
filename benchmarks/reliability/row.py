"""A row of docs/reliability.md: a promise, its goals, and what was measured."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Check", "Outcome", "Row"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """A figure held against a bound: `at_most` or, if not, at least."""

    what: str
    measured: float
    bound: float
    at_most: bool = True
    unit: str = ""

    @property
    def holds(self) -> bool:
        """True where the goal is reached; a figure that is not a number reaches none."""
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a row has measured. `table` is a header and lines of cells; `notes` are sentences: what was learnt."""

    setting: str
    checks: tuple[Check, ...]
    table: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """`name` for the command line, `title` and `goal` for the page; `measure()` does the work.
    `minutes` is how long it was asked to last, where that can be chosen."""

    name: str
    title: str
    goal: str
    measure: Callable[[], Outcome]
    minutes: float = 0
