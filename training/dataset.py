"""What every source of data gives."""

import hashlib
from dataclasses import dataclass

from torch import Tensor

from bundle.manifest import ImageSpec
from training.corruption import Range
from training.rows import Features, chunks

__all__ = ["DataSet"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet:
    """Rows: `features` float32 (n, d) within `range`; `labels`, int64 (n,), serve evaluation only, None without any.

    Rows from `own_test` on are the source's own test file; None where the source has none. `label_names[label]` is what
    a label is called, where it has a name.
    """

    source: str
    features: Features
    labels: Tensor | None
    range: Range
    image: ImageSpec | None
    own_test: int | None = None
    feature_names: tuple[str, ...] | None = None
    label_names: tuple[str, ...] | None = None

    @property
    def size(self) -> int:
        """d, the number of values in a row."""
        return self.features.shape[1]

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the shapes, the features and the labels."""
        digest = hashlib.sha256(repr((tuple(self.features.shape), self.own_test)).encode())
        for rows in chunks(self.features):
            digest.update(rows.contiguous().numpy().data)
        if self.labels is not None:
            digest.update(self.labels.numpy().data)
        return digest.hexdigest()
