"""Scikit-learn's digits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bundle.manifest import ImageSpec
from training.corruption import Range
from training.dataset import DataSet

__all__ = ["Digits"]


@dataclass(frozen=True, kw_only=True)
class Digits:
    """1,797 handwritten digits of 8 x 8 pixels, which come with scikit-learn: no file and no network needed."""

    range: Range = (0.0, 1.0)

    def __call__(self, _: Path) -> DataSet:
        from sklearn.datasets import load_digits

        digits = load_digits()
        return DataSet(
            source="scikit-learn's digits",
            features=torch.from_numpy(digits.data.astype(np.float32) / np.float32(16)),
            labels=torch.from_numpy(digits.target.astype(np.int64)),
            range=self.range,
            image=ImageSpec(height=8, width=8, channels=1),
        )
