"""Files of named columns, CSV and Parquet, read block by block."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pyarrow import csv, parquet, types

from training.errors import DataUnavailable

__all__ = ["SUFFIXES", "ColumnFile", "NotNumbers", "open_columns"]

CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = (*CSV_SUFFIXES, *PARQUET_SUFFIXES)
HEADING_BYTES = 2**20
BATCH_ROWS = 4096
NUMBER = re.compile(r"[+-]?\d*\.?\d+(e[+-]?\d+)?", re.IGNORECASE)
CONVERSION = re.compile(r"In CSV column #(\d+): .*CSV conversion error.*invalid value '(.*)'", re.DOTALL)


class NotNumbers(Exception):
    """A column holds something else than numbers, which only its later rows show."""

    def __init__(self, column: str, example: str) -> None:
        super().__init__(f"{column}: {example}")
        self.column = column
        self.example = example


class ColumnFile(Protocol):
    """A file of named columns."""

    def kinds(self) -> dict[str, str | None]:
        """What each column holds, in words, where that is no numbers; None for numbers. Raises DataUnavailable."""

    def batches(self, numbers: Sequence[str], texts: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows of these columns, block by block. Raises DataUnavailable, and NotNumbers."""


def open_columns(path: Path) -> ColumnFile:
    """The file at `path`, whose name ends in one of SUFFIXES. Raises DataUnavailable."""
    return CsvFile(path) if path.name.lower().endswith(CSV_SUFFIXES) else ParquetFile(path)


class CsvFile:
    """Values separated by commas, tabs or semicolons; the first line names the columns. It may be gzipped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _reading(path), pa.input_stream(str(path), compression="detect") as stream:
            heading = stream.read(HEADING_BYTES).split(b"\n")[0].decode(errors="replace")
        if not heading.strip():
            raise DataUnavailable(f"{path} is empty; a table has a heading and rows")
        self._separator = max(",;\t", key=heading.count)

    def kinds(self) -> dict[str, str | None]:
        """What each column holds that is no numbers, as far as the first megabyte shows; None for numbers."""
        schema = self._schema()
        _check_names(schema.names, self._path)
        # 0, 1, 2 ... are how some programs number columns; 0.5 is a value.
        if all(map(NUMBER.fullmatch, schema.names)) and not all(name.isdigit() for name in schema.names):
            raise DataUnavailable(f"{self._path} begins with numbers; its first line has to name the columns")
        return {column.name: _kind(column.type) for column in schema}

    def batches(self, numbers: Sequence[str], texts: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows of these columns, about a megabyte at a time."""
        schema = self._schema()
        # Numbers that begin whole may go on with fractions, and the reader would hold on to its first guess.
        forced = {name: pa.float64() for name in numbers if not types.is_boolean(schema.field(name).type)}
        forced |= {name: pa.string() for name in texts}
        with _reading(self._path, schema.names), self._open(forced, [*numbers, *texts]) as reader:
            yield from reader

    def _schema(self) -> pa.Schema:
        with _reading(self._path), self._open({}, []) as reader:
            return reader.schema

    def _open(self, column_types: dict[str, pa.DataType], columns: list[str]) -> Any:
        return csv.open_csv(
            str(self._path),
            parse_options=csv.ParseOptions(delimiter=self._separator, newlines_in_values=True),
            convert_options=csv.ConvertOptions(column_types=column_types, include_columns=columns),
        )


class ParquetFile:
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def kinds(self) -> dict[str, str | None]:
        """What each column holds that is no numbers; None for numbers."""
        with _reading(self._path):
            schema = parquet.read_schema(self._path)
        _check_names(schema.names, self._path)
        return {column.name: _kind(column.type) for column in schema}

    def batches(self, numbers: Sequence[str], texts: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows of these columns, some thousands at a time."""
        # Otherwise the reader keeps in memory all that it has read of the file.
        with _reading(self._path), parquet.ParquetFile(self._path, memory_map=True, pre_buffer=False) as file:
            yield from file.iter_batches(columns=[*numbers, *texts], batch_size=BATCH_ROWS)


@contextmanager
def _reading(path: Path, columns: Sequence[str] = ()) -> Iterator[None]:
    """What the reader has to say of the file is said in a sentence; `columns` are those of a CSV file, by number."""
    try:
        yield
    except MemoryError:  # which Arrow's is too
        raise
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        found = CONVERSION.search(str(error))
        if found is not None and columns:
            raise NotNumbers(columns[int(found[1])], found[2]) from None
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise DataUnavailable(f"{path} cannot be read ({reason[:200]})") from None


def _check_names(names: Sequence[str], path: Path) -> None:
    if "" in names:
        raise DataUnavailable(f"{path} has a column without a name, number {names.index('') + 1} of {len(names)}")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataUnavailable(f"{path} has more than one column called {', '.join(map(repr, twice))}")


def _kind(kind: pa.DataType) -> str | None:
    """What values of this type are, in a word; None for numbers. A column that lacks all values may be numbers."""
    numeric = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    if any(is_numeric(kind) for is_numeric in numeric):
        return None
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    return "dates" if types.is_timestamp(kind) or types.is_date(kind) else str(kind)
