"""Rows in NumPy's files: `.npy` through a memory map, however large, and `.npz`."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bundle.manifest import ImageSpec
from training.dataset import DataSet
from training.errors import DataUnavailable
from training.rows import Rows, chunks, held, transformed
from training.sources.labels import numbered

__all__ = ["read_array"]

FEATURES = ("x", "features")
LABELS = ("y", "labels")
LARGEST_SIDE = 4096


def read_array(path: Path, *, drop: frozenset[str]) -> DataSet:
    """The rows of a `.npy` file, or of the only array, `x` or `features`, of an `.npz` file, with its `y` or `labels`.

    (n, h, w) and (n, h, w, c), c 1 or 3, are pictures when they hold bytes or values in [0, 1]; everything else is n
    rows of numbers. With "missing" in `drop`, rows that hold NaN are left out. Raises DataUnavailable.
    """
    array, labels = _arrays(path)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or np.iscomplexobj(array):
        raise DataUnavailable(f"{path} holds values of type {array.dtype}; only real numbers can be trained on")
    if array.ndim < 2:
        raise DataUnavailable(f"{path} holds an array of shape {array.shape}; rows need two dimensions or more")
    if array.size == 0:
        raise DataUnavailable(f"{path} holds no rows: its array has the shape {array.shape}")
    if labels is not None and labels.shape != array.shape[:1]:
        raise DataUnavailable(f"{path} holds {len(array)} rows and labels of shape {labels.shape}; each row needs one")
    rows = Rows(array, torch.arange(len(array)))
    missing, (low, high) = _scan(rows, path)
    if missing.any():
        if "missing" not in drop:
            raise DataUnavailable(
                f"{path} has missing values (NaN) in {int(missing.sum()):,} of its {len(array):,} rows, "
                f"first in row {int(missing.int().argmax())}; --drop missing leaves such rows out"
            )
        if missing.all():
            raise DataUnavailable(f"{path} has missing values (NaN) in every row")
        rows = Rows(array, (~missing).nonzero().flatten())
    image = _image(array, low, high)
    codes, names = numbered([str(label) for label in labels[~missing.numpy()]]) if labels is not None else (None, None)
    scaled = transformed(rows, lambda x: x / 255) if image and array.dtype == np.uint8 else rows
    return DataSet(
        source=path.name,
        features=held(scaled) if isinstance(scaled, Rows) else scaled,
        labels=codes,
        range=(0.0, 1.0) if image else None,
        image=image,
        label_names=names,
    )


def _arrays(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """The rows in a file and, where it has some, the labels."""
    try:
        if path.suffix.lower() == ".npy":
            return np.lib.format.open_memmap(path, mode="r"), None
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise ValueError("it is no archive")
            keys = [key for key in found.files if key not in LABELS]
            named = [key for key in FEATURES if key in keys] or keys
            if len(named) != 1:
                raise DataUnavailable(
                    f"{path} holds the arrays {', '.join(found.files) or 'none'}; call the one with the rows x"
                )
            labels = next((found[key] for key in LABELS if key in found.files), None)
            return found[named[0]], labels
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataUnavailable(f"{path} cannot be read as an array of numbers ({reason})") from None


def _scan(rows: Rows, path: Path) -> tuple[Tensor, tuple[float, float]]:
    """Which rows hold NaN, bool (n,), and the lowest and highest of the other values."""
    missing, low, high = [], float("inf"), float("-inf")
    for x in chunks(rows):
        if x.isinf().any():
            raise DataUnavailable(f"{path} holds values that are infinite or too large for float32")
        missing.append(x.isnan().any(dim=1))
        low, high = min(low, float(x.nan_to_num(torch.inf).min())), max(high, float(x.nan_to_num(-torch.inf).max()))
    return torch.cat(missing), (low, high)


def _image(array: npt.NDArray[Any], low: float, high: float) -> ImageSpec | None:
    """What a row shows; None when it is no picture."""
    if array.ndim not in (3, 4) or max(array.shape[1:3]) > LARGEST_SIDE:
        return None
    _, height, width, *channels = array.shape
    if array.dtype != np.uint8 and not 0 <= low < high <= 1:
        return None
    match channels:
        case [] | [1]:
            return ImageSpec(height=height, width=width, channels=1)
        case [3]:
            return ImageSpec(height=height, width=width, channels=3)
    return None
