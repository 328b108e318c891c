"""Tables as rows of numbers with named features, or every reason why they are not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from training.dataset import DataSet
from training.errors import DataUnavailable
from training.rows import Rows, chunks, held
from training.sources.column_files import ColumnFile, NotNumbers, open_columns
from training.sources.labels import numbered
from training.spool import Spool

__all__ = ["read_table"]


class _Columns(NamedTuple):
    """The values of p named columns, (n, p) float32 with NaN where one is missing, and the labels as they stand. What
    was found of each column has the shape (p,)."""

    names: tuple[str, ...]
    rows: npt.NDArray[Any]
    labels: list[str]
    missing: npt.NDArray[np.int64]
    unbounded: npt.NDArray[np.bool_]
    constant: npt.NDArray[np.bool_]


def read_table(path: Path, *, label: str | None, drop: frozenset[str], work: Path) -> DataSet:
    """The columns of numbers, whose names are the features', and the column `label`, of whatever type, as labels.

    A table is refused with every reason at once when a column has no numbers, has one and the same throughout, or lacks
    some. With "text" or "constant" in `drop` such columns are left out instead, with "missing" the rows that lack a
    value. No more than a block of rows is in memory; what does not fit there is kept in `work`. Raises DataUnavailable,
    and OSError when the disk refuses.
    """
    table = open_columns(path)
    kinds = table.kinds()
    if label is not None and label not in kinds:
        raise DataUnavailable(f"{path} has no column {label!r} to take labels from; it has {_listed(kinds)}")
    others = {name: kind for name, kind in kinds.items() if kind is not None and name != label}
    while True:
        names = tuple(name for name in kinds if name not in others and name != label)
        try:
            columns = _read(table, names, label, work) if names else None
            break
        except NotNumbers as found:
            others[found.column] = f"{found.example!r}"
    faults = []
    if others and (columns is None or "text" not in drop):
        faults.append(f"no numbers in {_listed([f'{name} ({kind})' for name, kind in others.items()])}")
    if columns is not None:
        if len(columns.rows) == 0:
            raise DataUnavailable(f"{path} has a heading and no rows")
        faults += _faults(columns, drop)
    if faults or columns is None:
        remedies = [f"--drop {kind}" for kind in ("text", "constant", "missing") if kind not in drop]
        raise DataUnavailable(
            f"{path} cannot be trained on as it is: {'; '.join(faults) or 'it has no column of numbers'}"
            + (f" (leave out such columns or rows: {', '.join(remedies)})" if columns and remedies else "")
        )
    return _data_set(columns, path)


def _read(table: ColumnFile, names: tuple[str, ...], label: str | None, work: Path) -> _Columns:
    """All rows of the columns `names`. Raises NotNumbers when one of them has something else after all."""
    count = len(names)
    missing, unbounded = np.zeros(count, np.int64), np.zeros(count, bool)
    lowest, highest = np.full(count, np.inf, np.float32), np.full(count, -np.inf, np.float32)
    labels: list[str] = []
    with Spool(work, dtype=np.float32) as spool, np.errstate(over="ignore"):
        for batch in table.batches(names, [label] if label else []):
            block = np.empty((len(batch), count), np.float32)
            for index, name in enumerate(names):
                values = batch.column(name).cast(pa.float64(), safe=False)
                block[:, index] = values.to_numpy(zero_copy_only=False)
            missing += np.isnan(block).sum(axis=0)
            unbounded |= np.isinf(block).any(axis=0)
            lowest = np.fmin(lowest, np.fmin.reduce(block, axis=0, initial=np.inf))
            highest = np.fmax(highest, np.fmax.reduce(block, axis=0, initial=-np.inf))
            spool.append(block)
            if label is not None:
                labels += ["" if value is None else str(value) for value in batch.column(label).to_pylist()]
        return _Columns(names, spool.array(), labels, missing, unbounded, lowest >= highest)


def _faults(columns: _Columns, drop: frozenset[str]) -> list[str]:
    """What stands in the way of training on these columns, in words."""
    faults = []
    if columns.unbounded.any():
        faults.append(f"values that are infinite or too large for float32 in {_where(columns, columns.unbounded)}")
    if columns.constant.any() and "constant" not in drop:
        faults.append(f"one value throughout in {_where(columns, columns.constant)}")
    if columns.missing.any() and "missing" not in drop:
        count = len(columns.rows)
        lacking = [
            f"{name} ({rows:,} of {count:,} rows)"
            for name, rows in zip(columns.names, columns.missing.tolist(), strict=True)
            if rows
        ]
        faults.append(f"missing values in {_listed(lacking)}")
    return faults


def _data_set(columns: _Columns, path: Path) -> DataSet:
    """The complete rows of the columns that vary. Raises DataUnavailable when nothing is left."""
    varying = torch.from_numpy((~columns.constant).nonzero()[0])
    if len(varying) == 0:
        raise DataUnavailable(f"{path} has no column in which numbers differ")
    every = torch.arange(len(columns.rows))
    steps: tuple[_Selection, ...] = () if len(varying) == len(columns.names) else (_Selection(varying),)
    complete = torch.cat([~x.isnan().any(dim=1) for x in chunks(Rows(columns.rows, every, steps))])
    if not complete.any():
        raise DataUnavailable(f"{path} has no row without a missing value")
    labels = [label for label, whole in zip(columns.labels, complete.tolist(), strict=False) if whole]
    codes, label_names = numbered(labels) if labels else (None, None)
    return DataSet(
        source=path.name,
        features=held(Rows(columns.rows, every[complete], steps)),
        labels=codes,
        range=None,
        image=None,
        feature_names=tuple(columns.names[index] for index in varying.tolist()),
        label_names=label_names,
    )


@dataclass(frozen=True, eq=False)
class _Selection:
    """Some columns of rows."""

    columns: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return x[:, self.columns]


def _where(columns: _Columns, found: npt.NDArray[np.bool_]) -> str:
    return _listed([name for name, is_so in zip(columns.names, found.tolist(), strict=True) if is_so])


def _listed(names: Sequence[str] | dict[str, str | None]) -> str:
    """The names, the first ten of them where there are many more."""
    shown = list(names)
    return ", ".join(shown) if len(shown) <= 12 else f"{', '.join(shown[:10])} and {len(shown) - 10} more"
