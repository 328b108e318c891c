"""Rows of files as `diabolo diff` reads them."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bundle.manifest import ImageSpec, InputSpec
from cli.rows import RowsInvalid, range_warning, read_rows

PLAIN = InputSpec(size=4)
SQUARE = InputSpec(size=4, range=(0, 1), image=ImageSpec(height=2, width=2, channels=1))
SIGNED = InputSpec(size=12, range=(-1, 1), image=ImageSpec(height=2, width=2, channels=3))
NAMED = InputSpec(size=2, feature_names=("speed", "heat"))
ROWS = np.array([[0, 0.25, 0.5, 1], [1, 0.5, 0.25, 0]])


@pytest.fixture
def npy(tmp_path: Path) -> Path:
    return tmp_path / "rows.npy"


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "f2", "i8", "u1", "?"])
def test_numbers_of_any_type_become_rows(npy: Path, dtype: str) -> None:
    array = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]])
    np.save(npy, array.astype(dtype))
    rows = read_rows(npy, PLAIN)
    assert rows.dtype == np.float32
    assert rows.tolist() == array.tolist()


def test_arrays_as_pictures_are_flattened_and_their_bytes_scaled(npy: Path) -> None:
    np.save(npy, ROWS.reshape(2, 2, 2, 1))
    assert read_rows(npy, SQUARE).tolist() == ROWS.tolist()
    np.save(npy, (255 * np.eye(2)).astype(np.uint8)[None])
    assert read_rows(npy, SQUARE).tolist() == [[1, 0, 0, 1]]
    np.save(npy, np.eye(4, dtype=np.uint8))
    assert read_rows(npy, SQUARE).tolist() == np.eye(4).tolist()  # rows of numbers, as they stand
    np.save(npy, np.array([0, 255], np.uint8).repeat(6).reshape(1, 2, 2, 3))
    assert read_rows(npy, SIGNED).tolist() == [[-1] * 6 + [1] * 6]


@pytest.mark.parametrize("names", [("x", "y"), ("features", "labels"), ("only",), ("x", "other")])
def test_the_rows_of_an_archive_are_found_beside_labels(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "rows.npz"
    arrays: dict[str, Any] = {name: np.zeros(2) for name in names} | {names[0]: ROWS}
    np.savez(path, **arrays)
    assert read_rows(path, PLAIN).tolist() == ROWS.tolist()


def test_columns_are_taken_by_name_in_the_bundles_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("day,heat,speed\nmonday,1,2\ntuesday,3.5,4\n")
    assert read_rows(path, NAMED).tolist() == [[2, 1], [4, 3.5]]


def test_columns_stand_for_values_in_order_where_the_bundle_has_no_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c,d\n1,2,3,4\n")
    assert read_rows(path, PLAIN).tolist() == [[1, 2, 3, 4]]


def test_pictures_are_brought_to_the_bundles_size_and_range(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 255).save(tmp_path / "b.png")
    Image.new("RGB", (2, 2), (0, 0, 0)).save(tmp_path / "a.png")
    assert read_rows(tmp_path, SQUARE).tolist() == [[0] * 4, [1] * 4]
    assert read_rows(tmp_path, SIGNED).tolist() == [[-1] * 12, [1] * 12]


def npy_bytes(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


NAN = ROWS.copy()
NAN[1, 2] = np.nan


@pytest.mark.parametrize(
    ("name", "content", "spec", "reason"),
    [
        ("rows.npy", npy_bytes(np.zeros((2, 3))), PLAIN, "rows of 3 values, the bundles take rows of 4"),
        ("rows.npy", npy_bytes(np.zeros((0, 4))), PLAIN, "holds no rows"),
        ("rows.npy", npy_bytes(np.zeros((2, 2, 2))), PLAIN, r"shape \(2, 2, 2\); the bundles take \(n, 4\)$"),
        ("rows.npy", npy_bytes(np.zeros((2, 3, 3))), SQUARE, r"take \(n, 4\) or \(n, 2, 2, 1\) or \(n, 2, 2\)"),
        ("rows.npy", npy_bytes(np.zeros(4)), PLAIN, r"an array of shape \(4,\)"),
        ("rows.npy", npy_bytes(np.array(1.0)), SQUARE, r"an array of shape \(\)"),
        ("rows.npy", npy_bytes(NAN), PLAIN, r"in 1 of its 2 rows, first in row 1 \(counted from 0\), value 2"),
        ("rows.npy", npy_bytes(ROWS * 1e300), PLAIN, "too large for float32"),
        ("rows.npy", npy_bytes(np.array([["a"] * 4])), PLAIN, "real numbers"),
        ("rows.npy", npy_bytes(np.array([[1j] * 4])), PLAIN, "real numbers"),
        ("rows.npy", npy_bytes(np.array([[None] * 4])), PLAIN, "cannot be read"),
        ("rows.npy", npy_bytes(ROWS)[:-1], PLAIN, "cannot be read"),
        ("rows.npy", b"", PLAIN, "cannot be read"),
        ("rows.npz", pickle.dumps(ROWS), PLAIN, "cannot be read"),
        ("rows.npz", b"PK\x03\x04", PLAIN, "cannot be read"),
        ("rows.csv", b"heat,sped\n1,2\n", NAMED, "lacks 1 of the bundles' 2 features: speed"),
        ("rows.csv", b"heat,speed\n1,fast\n", NAMED, r"no numbers in speed \(text\)"),
        ("rows.csv", b"heat,speed\n1,2\n,4\n", NAMED, "first in row 1 .*, column 'heat'"),
        ("rows.csv", b"heat,speed\n", NAMED, "holds no rows|no numbers"),
        ("rows.csv", b"", NAMED, "is empty"),
        ("rows.txt", b"1 2", NAMED, r"of no kind that is read: .*\.npy.*\.csv.*folder of pictures"),
        ("missing.npy", None, PLAIN, "there is no file"),
        (".", None, PLAIN, "no pictures: give a file"),
        (".", None, SQUARE, "holds no pictures"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, name: str, content: bytes | None, spec: InputSpec, reason: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RowsInvalid, match=reason):
        read_rows(tmp_path / name, spec)


def test_numbers_that_turn_into_text_late_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("heat,speed\n" + "1,2\n" * 500_000 + "1,fast\n")
    with pytest.raises(RowsInvalid, match="no number in speed: 'fast'"):
        read_rows(path, NAMED)


def test_pixels_of_255_draw_a_warning() -> None:
    rows = np.array([[0, 0, 128, 255]], np.float32)
    assert "from 0 to 255, while the bundles were made for 0 to 1" in str(range_warning(rows, SQUARE))
    assert range_warning(rows / np.float32(255), SQUARE) is None
    assert range_warning(rows, PLAIN) is None
