"""Names of classes as numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["numbered"]


def numbered(names: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    """The number of each name, int64 (n,), and the different names in the order of their numbers, which is that of
    numbers where all are numbers, else the alphabet's."""
    try:
        classes = sorted(set(names), key=float)
    except ValueError:
        classes = sorted(set(names))
    number = {name: index for index, name in enumerate(classes)}
    return torch.tensor([number[name] for name in names], dtype=torch.int64), tuple(classes)
