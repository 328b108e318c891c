"""Data sets: files are read whole or refused, and splits share nothing."""

import gzip
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
import torchvision

from training.data import SOURCES, DataSet, SplitSizes, load, split
from training.errors import DataUnavailable
from training.sources import idx as module
from training.sources.idx import read_idx

SIZES = SplitSizes(validation=20, calibration=30)


def idx(array: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bytes:
    heading = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return heading + array.tobytes()


def place_pictures(folder: Path, *, packed: bool, train: int = 30, test: int = 10) -> None:
    """The four files of MNIST's layout; pixel values count up."""
    folder.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        images = np.arange(count * 6, dtype=np.uint8).reshape(count, 3, 2)
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8))):
            content = idx(array)
            path = folder / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)


def test_splits_share_no_row_and_leave_none_out(data: DataSet) -> None:
    splits = split(data, SIZES, seed=0)
    assert [len(rows) for rows in splits] == [100, 20, 30, 50]
    assert sorted(torch.cat(splits).tolist()) == list(range(200))


def test_the_test_file_is_the_test_split_in_its_own_order(data: DataSet) -> None:
    assert split(data, SIZES, seed=0).test.tolist() == list(range(150, 200))
    assert split(data, SIZES, seed=1).test.tolist() == list(range(150, 200))


def test_a_source_without_a_test_file_gives_up_rows_for_one() -> None:
    digits = load("digits", Path("nowhere"))
    splits = split(digits, SplitSizes(validation=97, calibration=300, test=400), seed=0)
    assert [len(rows) for rows in splits] == [1000, 97, 300, 400]
    assert len(set(torch.cat(splits).tolist())) == 1797


def test_the_seed_decides_the_splits(data: DataSet) -> None:
    first, again, other = (split(data, SIZES, seed=seed) for seed in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.train, other.train)


def test_a_source_with_too_few_rows_is_refused(data: DataSet) -> None:
    with pytest.raises(DataUnavailable, match="150 rows outside its test file"):
        split(data, SplitSizes(validation=100, calibration=50), seed=0)


def test_the_digest_tells_values_and_labels_apart(data: DataSet) -> None:
    original = torch.arange(200) % 10
    changed = [data.features[:].clone(), original.clone()]
    changed[0][7, 3] += 1e-6
    changed[1][7] += 1
    digests = {
        DataSet(source="", features=features, labels=labels, range=None, image=None, own_test=150).digest
        for features in (data.features[:], changed[0])
        for labels in (original, changed[1])
    }
    assert len(digests) == 4
    assert data.digest in digests


def test_digits_lie_within_their_range() -> None:
    digits = load("digits", Path("nowhere"))
    assert digits.features[:].dtype == torch.float32
    assert digits.features.shape == (1797, 64)
    assert (digits.features[:].min().item(), digits.features[:].max().item()) == digits.range == (0, 1)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("source", "folder"), [("mnist", "mnist"), ("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw")]
)
def test_pictures_are_read_from_a_local_folder(tmp_path: Path, source: str, folder: str, packed: bool) -> None:
    place_pictures(tmp_path / folder, packed=packed)
    pictures = load(source, tmp_path)
    assert pictures.features.shape == (40, 6)
    assert pictures.own_test == 30
    assert pictures.image is not None
    assert (pictures.image.height, pictures.image.width) == (3, 2)
    assert torch.equal(pictures.features[:][1], torch.arange(6, 12, dtype=torch.float32) / 255)
    assert pictures.labels is not None
    assert pictures.labels[30:].tolist() == list(range(10))
    assert (pictures.label_names or ["9"])[-1] == ("boot" if source == "fashion-mnist" else "9")


@pytest.mark.parametrize("packed", [True, False])
def test_a_truncated_file_is_refused(tmp_path: Path, packed: bool) -> None:
    place_pictures(tmp_path / "mnist", packed=packed)
    path = next((tmp_path / "mnist").glob("train-images*"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataUnavailable, match="fetch the file anew"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("content", [b"", b"\0\0\x0d\x01\0\0\0\1\0\0\0\0", b"PNG and so on", b"\0\0\x08\x03\0\0"])
def test_what_is_no_idx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataUnavailable, match="train-images"):
        read_idx(path)


def test_a_file_that_is_longer_than_its_heading_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx(np.zeros(4, np.uint8)) + b"\0")
    with pytest.raises(DataUnavailable, match="13 bytes where its heading asks for 12"):
        read_idx(path)


def test_a_missing_file_of_the_four_is_named(tmp_path: Path) -> None:
    place_pictures(tmp_path / "mnist", packed=True)
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataUnavailable, match="lacks t10k-labels-idx1-ubyte"):
        load("mnist", tmp_path)


def test_images_without_their_labels_are_refused(tmp_path: Path) -> None:
    place_pictures(tmp_path / "mnist", packed=False)
    (tmp_path / "mnist" / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(DataUnavailable, match="equally many images and labels"):
        load("mnist", tmp_path)


def test_a_failed_download_names_the_package_and_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("no network:\nTried here:\nand there")

    monkeypatch.setattr(module, "PACKAGED", tmp_path / "none")
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fail)
    with pytest.raises(DataUnavailable) as caught:
        load("fashion-mnist", tmp_path / "data")
    assert "could not be downloaded (no network)" in str(caught.value)
    assert "dataset-fashion-mnist" in str(caught.value)
    assert str(tmp_path / "data" / "fashion-mnist") in str(caught.value)


def test_every_source_declares_the_range_that_it_has(tmp_path: Path) -> None:
    place_pictures(tmp_path / "mnist", packed=True)
    place_pictures(tmp_path / "fashion-mnist", packed=True)
    for name, source in SOURCES.items():
        assert load(name, tmp_path).range == source.range
