"""Names of classes as numbers."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["numbered"]


def numbered(names: Sequence[str]) -> tuple[Tensor, tuple[str, ...]]:
    """The number of each name, int64 (n,), and the different names in the order of their numbers: rising where all are
    numbers, else the most frequent first, so that of two the rarer is 1, as anomalies are."""
    count = Counter(names)
    try:
        classes = sorted(count, key=float)
    except ValueError:
        classes = sorted(count, key=lambda name: (-count[name], name))
    number = {name: index for index, name in enumerate(classes)}
    return torch.tensor([number[name] for name in names], dtype=torch.int64), tuple(classes)
