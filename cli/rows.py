"""The user's own rows, in the files that `diabolo train --data` reads, as a bundle takes them."""

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundle.calibration import Floats
from bundle.manifest import InputSpec

__all__ = ["RowsInvalid", "range_warning", "read_rows"]

ROWS_IN_ARCHIVE = ("x", "features")
BESIDE_THEM = ("y", "labels")
Array = npt.NDArray[Any]


class RowsInvalid(Exception):
    """A file does not hold rows that the bundle takes; the text says why, and what would be right."""


def read_rows(path: Path, spec: InputSpec) -> Floats:
    """All rows of the file or folder, float32 (n, d), n > 0, finite.

    `.npy`, or `.npz` with the rows as its only array or as `x`: (n, d), or nested as the picture that a row is, bytes
    then mapped onto the declared range. CSV and Parquet: the columns of the bundle's features by name, others passed
    over. A folder: its pictures, brought to the bundle's size. Raises RowsInvalid.
    """
    if not path.exists():
        raise RowsInvalid(f"there is no file and no folder at {path}")
    if path.is_dir():
        rows = _pictures(path, spec)
    elif path.name.lower().endswith((".npy", ".npz")):
        rows = _flat(_array(path), path, spec)
    else:
        rows = _table(path, spec)
    if len(rows) == 0:
        raise RowsInvalid(f"{path} holds no rows")
    if rows.shape[1] != spec.size:
        raise RowsInvalid(f"{path} holds rows of {rows.shape[1]} values, the bundles take rows of {spec.size}")
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        where = f"column {spec.feature_names[column]!r}" if spec.feature_names else f"value {column}"
        raise RowsInvalid(
            f"{path} holds values that are missing, infinite or too large for float32 in {int((~finite).any(1).sum())} "
            f"of its {len(rows)} rows, first in row {row} (counted from 0), {where}: leave such rows out"
        )
    return rows


def range_warning(rows: Floats, spec: InputSpec) -> str | None:
    """A sentence when rows lie well outside the declared range: what is found of them then means little."""
    lowest, highest = float(rows.min()), float(rows.max())
    low, high = spec.range or (lowest, highest)
    slack = 1e-3 * (high - low)
    if low - slack <= lowest and highest <= high + slack:
        return None
    return f"the rows reach from {lowest:.4g} to {highest:.4g}, while the bundles were made for {low:.4g} to {high:.4g}"


def _array(path: Path) -> Array:
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            names = [name for name in found.files if name not in BESIDE_THEM]
            named = [name for name in ROWS_IN_ARCHIVE if name in names] or names
            if len(named) != 1:
                held = ", ".join(found.files) or "none"
                raise RowsInvalid(f"{path} holds the arrays {held}; call the one with the rows x")
            return np.asarray(found[named[0]])
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise RowsInvalid(f"{path} cannot be read as an array of numbers ({reason})") from None


def _flat(array: Array, path: Path, spec: InputSpec) -> Floats:
    """(n, d) of an array (n, d) or (n, height, width[, channels])."""
    if array.dtype.kind not in "fiub":
        raise RowsInvalid(f"{path} holds values of type {array.dtype}; rows are real numbers")
    image = spec.image
    nested: list[tuple[int, ...]] = [] if image is None else [(image.height, image.width, image.channels)]
    if image is not None and image.channels == 1:
        nested.append((image.height, image.width))
    if array.ndim != 2 and array.shape[1:] not in nested:
        shapes = " or ".join(str(("n", *shape)).replace("'", "") for shape in [(spec.size,), *nested])
        raise RowsInvalid(f"{path} holds an array of shape {array.shape}; the bundles take {shapes}")
    with np.errstate(over="ignore"):
        rows = np.asarray(array, dtype=np.float32).reshape(len(array), int(np.prod(array.shape[1:])))
    if spec.range is not None and array.ndim > 2 and array.dtype == np.uint8:
        low, high = spec.range
        rows = np.float32(low) + rows * np.float32((high - low) / 255)
    return rows


def _table(path: Path, spec: InputSpec) -> Floats:
    from training.errors import DataUnavailable
    from training.sources.column_files import SUFFIXES, NotNumbers, open_columns

    if not path.name.lower().endswith(SUFFIXES):
        kinds = ", ".join((".npy", ".npz", *SUFFIXES))
        raise RowsInvalid(f"{path} is of no kind that is read: a file that ends in {kinds}, or a folder of pictures")
    try:
        table = open_columns(path)
        kinds_by_name = table.kinds()
        names = spec.feature_names or tuple(kinds_by_name)
        if missing := [name for name in names if name not in kinds_by_name]:
            raise RowsInvalid(
                f"{path} lacks {len(missing)} of the bundles' {len(names)} features: {', '.join(missing[:10])}"
            )
        if texts := [f"{name} ({kind})" for name in names if (kind := kinds_by_name[name]) is not None]:
            raise RowsInvalid(f"{path} has no numbers in {', '.join(texts[:10])}")
        blocks = [
            np.column_stack([np.asarray(batch.column(name).cast("float64", safe=False)) for name in names])
            for batch in table.batches(names, [])
        ]
    except NotNumbers as found:
        raise RowsInvalid(f"{path} has no number in {found.column}: {found.example!r}") from None
    except DataUnavailable as error:
        raise RowsInvalid(str(error)) from None
    with np.errstate(over="ignore"):
        return np.concatenate([np.empty((0, len(names))), *blocks]).astype(np.float32)


def _pictures(folder: Path, spec: InputSpec) -> Floats:
    from training.errors import DataUnavailable
    from training.sources.images import read_images

    image = spec.image
    if image is None or spec.range is None:
        raise RowsInvalid(f"{folder} is a folder, and the rows of these bundles are no pictures: give a file")
    try:
        with tempfile.TemporaryDirectory() as work:
            found = read_images(
                folder,
                size=(image.height, image.width),
                colours="grey" if image.channels == 1 else "colour",
                work=Path(work),
            )
            pixels = np.asarray(found.features[: len(found.features)])
    except DataUnavailable as error:
        raise RowsInvalid(str(error)) from None
    low, high = spec.range
    return np.float32(low) + pixels * np.float32(high - low)
