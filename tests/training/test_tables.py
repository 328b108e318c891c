"""Tables: columns of numbers by name, or one sentence with every reason why not."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from training import rows as rows_module
from training.dataset import DataSet
from training.errors import DataUnavailable
from training.rows import Rows
from training.sources.files import Dropped, Files

TABLE = "flow,on,pressure/bar,state\n1,true,0.5,ok\n2.5,false,-3e2,ok\n-4,true,7,worn\n"
VALUES = [[1, 1, 0.5], [2.5, 0, -300], [-4, 1, 7]]


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(path: Path, *drop: Dropped, label: str | None = None) -> DataSet:
    return Files(path=str(path), label=label, drop=drop)(path.parent / "runs")


def refusal(path: Path, *drop: Dropped, label: str | None = None) -> str:
    with pytest.raises(DataUnavailable) as caught:
        read(path, *drop, label=label)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["pumps.csv", "PUMPS.CSV", "pumps.csv.gz"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_columns_of_numbers_are_features_by_name(tmp_path: Path, name: str, mark: str) -> None:
    data = read(write(tmp_path / name, mark + TABLE), label="state")
    assert data.feature_names == ("flow", "on", "pressure/bar")
    assert data.features[:].tolist() == VALUES
    assert data.features[:].dtype == torch.float32
    assert (data.source, data.range, data.image) == (name, None, None)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_are_found(tmp_path: Path, separator: str) -> None:
    data = read(write(tmp_path / "pumps.csv", TABLE.replace(",", separator)), label="state")
    assert data.features[:].tolist() == VALUES


def test_labels_are_numbered_so_that_the_rarer_of_two_is_1_and_are_no_feature(tmp_path: Path) -> None:
    data = read(write(tmp_path / "pumps.csv", TABLE), label="state")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1]
    assert data.label_names == ("ok", "worn")
    rarer = read(write(tmp_path / "rarer.csv", "a,class\n1,bad\n2,ok\n3,ok\n"), label="class")
    assert rarer.labels is not None
    assert (rarer.labels.tolist(), rarer.label_names) == ([1, 0, 0], ("ok", "bad"))
    numbers = read(write(tmp_path / "numbers.csv", "a,class\n1,10\n2,9\n3,10\n"), label="class")
    assert numbers.labels is not None
    assert (numbers.labels.tolist(), numbers.label_names) == ([1, 0, 1], ("9", "10"))


def test_a_parquet_file_gives_what_its_csv_gives(tmp_path: Path) -> None:
    columns = {
        "flow": pa.array([1, 2.5, -4], pa.float64()),
        "on": pa.array([True, False, True]),
        "pressure/bar": pa.array([0.5, -300, 7], pa.float32()),
        "state": pa.array(["ok", "ok", "worn"]).dictionary_encode(),
    }
    parquet.write_table(pa.table(columns), tmp_path / "pumps.parquet", row_group_size=2)
    data = read(tmp_path / "pumps.parquet", label="state")
    of_csv = read(write(tmp_path / "pumps.csv", TABLE), label="state")
    assert data.features[:].tolist() == VALUES
    assert (data.feature_names, data.label_names) == (of_csv.feature_names, of_csv.label_names)
    assert data.digest == of_csv.digest


def test_every_reason_is_named_at_once_with_its_remedy(tmp_path: Path) -> None:
    table = "a,b,c,d,when\n1,,5,x,2024-01-01\n2,3,5,y,2024-01-02\n3,4,5,z,2024-01-03\n"
    said = refusal(write(tmp_path / "pumps.csv", table))
    for reason in (
        "pumps.csv cannot be trained on",
        "no numbers in d (text), when (dates)",
        "one value throughout in c",
        "missing values in b (1 of 3 rows)",
        "--drop text, --drop constant, --drop missing",
    ):
        assert reason in said


def test_what_may_be_dropped_is_left_out(tmp_path: Path) -> None:
    table = "a,b,c,d,y\n1,,5,x,p\n2,3,5,y,q\n3,4,5,z,r\n"
    data = read(write(tmp_path / "pumps.csv", table), "text", "constant", "missing", label="y")
    assert data.feature_names == ("a", "b")
    assert data.features[:].tolist() == [[2, 3], [3, 4]]
    assert data.label_names == ("q", "r")


@pytest.mark.parametrize(("dropped", "left"), [("text", "one value"), ("constant", "no numbers")])
def test_dropping_one_thing_drops_no_other(tmp_path: Path, dropped: Dropped, left: str) -> None:
    said = refusal(write(tmp_path / "pumps.csv", "a,c,d\n1,5,x\n2,5,y\n"), dropped)
    assert left in said
    assert f"--drop {dropped}" not in said


def test_a_column_that_lacks_everything_does_not_take_the_rows_with_it(tmp_path: Path) -> None:
    data = read(write(tmp_path / "pumps.csv", "a,b\n1,\n2,\n"), "constant", "missing")
    assert (data.feature_names, data.features[:].tolist()) == (("a",), [[1], [2]])


def long_table(last: str) -> str:
    """More than the reader guesses the types from: a column of whole numbers, and one that ends as told."""
    return "a,b\n" + "".join(f"{index},{index % 7}\n" for index in range(300_000)) + last


def test_numbers_that_turn_fractional_late_are_numbers(tmp_path: Path) -> None:
    data = read(write(tmp_path / "long.csv", long_table("5,0.5\n")))
    assert data.features[-1:].tolist() == [[5, 0.5]]


def test_text_that_comes_late_is_named_or_dropped(tmp_path: Path) -> None:
    path = write(tmp_path / "long.csv", long_table("5,broken\n"))
    assert "no numbers in b ('broken')" in refusal(path)
    assert read(path, "text").feature_names == ("a",)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("", "is empty"),
        ("a,b\n", "a heading and no rows"),
        ("a,a\n1,2\n", "more than one column called 'a'"),
        (",a\n1,2\n", "a column without a name, number 1 of 2"),
        ("0.5,1.5\n1,2\n", "its first line has to name the columns"),
        ("a,b\n1,2\n1,2,3\n", "cannot be read"),
        ("a\nx\ny\n", "no numbers in a (text)"),
        ("a,b\n1,1e39\n2,3\n", "too large for float32 in b"),
        ("a,b\n1,inf\n2,3\n", "infinite or too large for float32 in b"),
        ("a\n1\n1\n", "one value throughout in a"),
    ],
)
def test_what_is_no_table_of_numbers_is_one_sentence(tmp_path: Path, table: str, reason: str) -> None:
    assert reason in refusal(write(tmp_path / "pumps.csv", table))


def test_nothing_left_is_said_too(tmp_path: Path) -> None:
    assert "no column in which numbers differ" in refusal(write(tmp_path / "a.csv", "a\n1\n1\n"), "constant")
    assert "no row without a missing value" in refusal(write(tmp_path / "b.csv", "a,b\n1,\n,2\n3,\n,4\n"), "missing")


def test_an_unknown_label_is_answered_with_the_columns(tmp_path: Path) -> None:
    said = refusal(write(tmp_path / "pumps.csv", TABLE), label="status")
    assert "no column 'status'" in said
    assert "flow, on, pressure/bar, state" in said


@pytest.mark.parametrize("name", ["pumps.parquet", "pumps.csv.gz"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1 or not")
    assert f"{name} cannot be read" in refusal(tmp_path / name)


def test_a_table_beyond_memory_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(30_000, 3)).astype(np.float32)
    parquet.write_table(pa.table(dict(zip("abc", values.T, strict=True))), tmp_path / "big.parquet")
    in_memory = read(tmp_path / "big.parquet")
    monkeypatch.setattr(rows_module, "MEMORY_BYTES", 1000)
    data = read(tmp_path / "big.parquet")
    assert isinstance(data.features, Rows)
    assert isinstance(data.features.array, np.memmap)
    assert np.array_equal(data.features[:].numpy(), values)
    assert data.digest == in_memory.digest
    assert list((tmp_path / "runs").iterdir()) == []
