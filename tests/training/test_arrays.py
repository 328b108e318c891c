"""NumPy's files: pictures where they are some, rows of numbers elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from training import rows as rows_module
from training.dataset import DataSet
from training.errors import DataUnavailable
from training.rows import Rows
from training.sources.files import Dropped, Files

GENERATOR = np.random.default_rng(0)
GREY = GENERATOR.random((7, 3, 2))


def read(path: Path, *drop: Dropped) -> DataSet:
    return Files(path=str(path), drop=drop)(path.parent)


def saved(folder: Path, array: npt.NDArray[Any]) -> Path:
    np.save(folder / "rows.npy", array)
    return folder / "rows.npy"


def refusal(path: Path) -> str:
    with pytest.raises(DataUnavailable) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (GREY, GREY),
        (GREY.astype(np.float32)[..., None], GREY),
        ((GREY * 255).astype(np.uint8), (GREY * 255).astype(np.uint8) / 255),
        (np.asfortranarray(GREY), GREY),
        (GREY > 0.5, GREY > 0.5),
    ],
    ids=["float64", "one channel", "bytes", "Fortran's order", "boolean"],
)
def test_grey_pictures_have_the_range_from_0_to_1(
    tmp_path: Path, array: npt.NDArray[Any], wanted: npt.NDArray[Any]
) -> None:
    data = read(saved(tmp_path, array))
    assert data.image is not None
    assert (data.image.height, data.image.width, data.image.channels, data.range) == (3, 2, 1, (0, 1))
    np.testing.assert_allclose(data.features[:].numpy(), wanted.reshape(7, 6), rtol=1e-6)


def test_pictures_may_have_three_channels(tmp_path: Path) -> None:
    data = read(saved(tmp_path, np.stack([GREY] * 3, axis=-1)))
    assert data.image is not None
    assert (data.image.channels, data.size) == (3, 18)


@pytest.mark.parametrize("array", [GREY.reshape(7, 6), 2 * GREY, GREY - 0.1, np.stack([GREY] * 4, axis=-1)])
def test_everything_else_is_rows_of_numbers(tmp_path: Path, array: npt.NDArray[Any]) -> None:
    data = read(saved(tmp_path, array))
    assert (data.image, data.range, data.labels, data.feature_names) == (None, None, None, None)
    np.testing.assert_allclose(data.features[:].numpy(), array.reshape(7, -1), rtol=1e-6)


@pytest.mark.parametrize("keys", [("x", "y"), ("features", "labels"), ("anything", "y")])
def test_an_archive_may_hold_labels(tmp_path: Path, keys: tuple[str, str]) -> None:
    rows, labels = keys
    arrays: dict[str, Any] = {rows: GREY.reshape(7, 6), labels: np.array(list("abacaba"))}
    np.savez(tmp_path / "rows.npz", **arrays)
    data = read(tmp_path / "rows.npz")
    assert data.features.shape == (7, 6)
    assert data.labels is not None
    assert (data.labels.tolist(), data.label_names) == ([0, 1, 0, 2, 0, 1, 0], ("a", "b", "c"))


def test_rows_with_missing_values_are_refused_or_dropped_with_their_labels(tmp_path: Path) -> None:
    rows = 10 * GREY.reshape(7, 6)
    rows[[1, 4], [0, 5]] = np.nan
    np.savez(tmp_path / "rows.npz", x=rows, y=np.arange(7))
    assert "missing values (NaN) in 2 of its 7 rows, first in row 1; --drop missing" in refusal(tmp_path / "rows.npz")
    data = read(tmp_path / "rows.npz", "missing")
    np.testing.assert_allclose(data.features[:].numpy(), rows[[0, 2, 3, 5, 6]], rtol=1e-6)
    assert data.label_names == ("0", "2", "3", "5", "6")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((0, 3)), "no rows"),
        (np.zeros((3, 0)), "no rows"),
        (np.zeros(3), "two dimensions or more"),
        (np.array([["a", "b"]]), "only real numbers"),
        (np.array([[1 + 1j]]), "only real numbers"),
        (np.array([[np.inf, 1]]), "infinite or too large"),
        (np.array([[1e39, 1]]), "infinite or too large"),
        (np.full((2, 2), np.nan), "missing values"),
        (np.array([[None]], dtype=object), "cannot be read as an array of numbers"),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(tmp_path: Path, array: npt.NDArray[Any], reason: str) -> None:
    assert reason in refusal(saved(tmp_path, array))


@pytest.mark.parametrize("name", ["rows.npy", "rows.npz"])
@pytest.mark.parametrize("content", [b"", b"PK\3\4 and so on", b"\x93NUMPY\1\0"], ids=["empty", "zip", "npy"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{name} cannot be read" in refusal(tmp_path / name)


def test_an_archive_of_many_arrays_is_asked_which(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", a=GREY, b=GREY)
    assert "holds the arrays a, b; call the one with the rows x" in refusal(tmp_path / "rows.npz")


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=GREY, y=np.arange(6))
    assert "labels of shape (6,)" in refusal(tmp_path / "rows.npz")


def test_a_large_array_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, (GREY * 255).astype(np.uint8))
    whole = read(path)
    monkeypatch.setattr(rows_module, "MEMORY_BYTES", 0)
    data = read(path)
    assert isinstance(data.features, Rows)
    assert isinstance(data.features.array, np.memmap)
    assert data.digest == whole.digest


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"image_size": (8, 8)}, "--image-size is for a folder of pictures"),
        ({"colours": "grey"}, "--grey and --colour is for a folder of pictures"),
        ({"label": "y"}, "--label is for a table"),
    ],
)
def test_an_option_of_another_kind_of_data_is_refused(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataUnavailable, match=reason):
        Files(path=str(saved(tmp_path, GREY)), **options)(tmp_path)


def test_a_file_of_no_known_kind_is_answered_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").write_bytes(b"")
    assert all(kind in refusal(tmp_path / "rows.xlsx") for kind in (".png", ".npy", ".npz", ".csv", ".parquet"))
    assert "there is no file and no folder at" in refusal(tmp_path / "nowhere.csv")
