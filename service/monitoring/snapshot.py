"""All numbers of a process at one moment, and those of several as one."""

from collections.abc import Callable, Iterable, Mapping
from typing import Self

import orjson

from service.monitoring.families import FAMILIES, Kind, Merge

__all__ = ["Labels", "Snapshot"]

Labels = tuple[str, ...]
COMBINE: Mapping[Merge, Callable[[list[float], list[float]], list[float]]] = {
    Merge.SUM: lambda one, other: [a + b for a, b in zip(one, other, strict=True)],
    Merge.LARGEST: max,
    Merge.SMALLEST: min,
}


class Snapshot:
    """Of each family and labels the numbers: one, or of a histogram its counts by edge and their sum."""

    def __init__(self) -> None:
        self.values: dict[str, dict[Labels, list[float]]] = {}

    def add(self, family: str, labels: Labels, *numbers: float) -> None:
        """These numbers are in it, combined as the family says with what was there."""
        values = self.values.setdefault(family, {})
        there = values.get(labels)
        new = list(numbers)
        values[labels] = new if there is None else COMBINE[FAMILIES[family].merge](there, new)

    def include(self, others: Iterable["Snapshot"]) -> Self:
        """The numbers of the others are in it as well."""
        for other in others:
            for family, values in other.values.items():
                for labels, numbers in values.items():
                    self.add(family, labels, *numbers)
        return self

    def past(self) -> "Snapshot":
        """What stays of it once its process has ended: no gauges."""
        left = Snapshot()
        left.values = {name: found for name, found in self.values.items() if FAMILIES[name].kind is not Kind.GAUGE}
        return left

    def to_bytes(self) -> bytes:
        """As JSON."""
        return orjson.dumps({family: list(values.items()) for family, values in self.values.items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """From what `to_bytes` gave. Raises ValueError."""
        snapshot = cls()
        for family, values in orjson.loads(content).items():
            snapshot.values[family] = {tuple(labels): numbers for labels, numbers in values}
        return snapshot
