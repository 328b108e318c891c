"""Folders of pictures: one size, upright, grey or in colour."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from training import rows as rows_module
from training.dataset import DataSet
from training.errors import DataUnavailable
from training.rows import Rows
from training.sources.files import Files

ORIENTATION = 0x0112
QUARTER_TURN = 6  # EXIF: to be turned clockwise by 90 degrees


def place(path: Path, *, size: tuple[int, int] = (4, 3), mode: str = "L", shade: int = 128, **options: Any) -> None:
    """A picture of one shade, `size` (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, shade).convert(mode).save(path, **options)


def read(folder: Path, **options: Any) -> DataSet:
    return Files(path=str(folder), **options)(folder.parent / "runs")


def shape(data: DataSet) -> tuple[int, int, int]:
    assert data.image is not None
    return data.image.height, data.image.width, data.image.channels


def shades(data: DataSet) -> list[int]:
    """The mean of each picture, in 255ths."""
    return [round(255 * value) for value in data.features[:].mean(dim=1).tolist()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp", ".bmp"])
def test_pictures_of_each_kind_are_read_in_the_order_of_their_paths(folder: Path, suffix: str) -> None:
    for name, shade in (("b", 60), ("a", 200)):
        place(folder / f"{name}{suffix}", shade=shade, mode="RGB" if suffix == ".webp" else "L")
    data = read(folder, colours="grey")
    assert shape(data) == (3, 4, 1)
    assert data.range == (0, 1)
    assert data.labels is None
    assert shades(data) == pytest.approx([200, 60], abs=2)


def test_sub_folders_are_labels(folder: Path) -> None:
    for name in ("cat/1.png", "dog/1.png", "dog/old/2.png"):
        place(folder / name)
    data = read(folder)
    assert data.labels is not None
    assert (data.labels.tolist(), data.label_names) == ([1, 0, 0], ("dog", "cat"))


def test_hidden_and_other_files_are_passed_over(folder: Path) -> None:
    place(folder / "a.png")
    for name in (".b.png", ".cache/c.png", "notes.txt", "Thumbs.db"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no picture")
    assert len(read(folder).features) == 1


def test_the_size_is_the_most_common_one(folder: Path) -> None:
    for index, size in enumerate([(10, 10), (5, 8), (5, 8), (90, 10)]):
        place(folder / f"{index}.png", size=size)
    assert shape(read(folder)) == (8, 5, 1)


def test_large_pictures_become_smaller_in_proportion(folder: Path) -> None:
    place(folder / "large.png", size=(256, 100))
    assert shape(read(folder)) == (25, 64, 1)


def test_the_size_can_be_chosen(folder: Path) -> None:
    place(folder / "a.png", size=(256, 100))
    assert shape(read(folder, image_size=(7, 100))) == (7, 100, 1)


def test_shrinking_averages_instead_of_skipping_pixels(folder: Path) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 64))
    Image.fromarray(stripes).save(folder / "stripes.png")
    pixels = read(folder, image_size=(8, 16)).features[:]
    assert (pixels - 0.5).abs().max() < 0.1


def test_a_photograph_is_turned_upright(folder: Path) -> None:
    picture = Image.fromarray(np.array([[0, 255, 255], [0, 255, 255]], np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = QUARTER_TURN
    picture.save(folder / "turned.png", exif=exif)
    data = read(folder)
    assert shape(data) == (3, 2, 1)
    assert data.features[:].reshape(3, 2).tolist() == [[0, 0], [1, 1], [1, 1]]


@pytest.mark.parametrize(("colours", "channels"), [(None, 3), ("grey", 1), ("colour", 3)])
def test_one_picture_in_colour_makes_colour_unless_told_otherwise(
    folder: Path, colours: str | None, channels: int
) -> None:
    place(folder / "grey.png")
    Image.new("RGB", (4, 3), (255, 0, 0)).save(folder / "red.png")
    data = read(folder, colours=colours)
    assert shape(data) == (3, 4, channels)
    red = data.features[1:].reshape(12, channels)[0]
    assert red.tolist() == pytest.approx([1, 0, 0] if channels == 3 else [0.299], abs=0.005)


def test_grey_pictures_alone_stay_grey(folder: Path) -> None:
    for mode in ("1", "L", "LA"):
        place(folder / f"{mode}.png", mode=mode)
    assert shape(read(folder)) == (3, 4, 1)


def test_sixteen_bits_of_grey_keep_their_scale(folder: Path) -> None:
    Image.fromarray(np.full((3, 4), 65535 // 2, np.uint16)).save(folder / "deep.png")
    assert shades(read(folder)) == [127]


def test_what_is_transparent_becomes_white(folder: Path) -> None:
    Image.new("RGBA", (4, 3), (0, 0, 0, 0)).save(folder / "clear.png")
    assert torch.equal(read(folder).features[:], torch.ones(1, 36))


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_an_unreadable_picture_is_named(folder: Path, content: bytes) -> None:
    place(folder / "a" / "fine.png")
    (folder / "b").mkdir()
    (folder / "b" / "broken.png").write_bytes(content)
    with pytest.raises(DataUnavailable, match=r"^b/broken\.png in .* cannot be read: it is damaged, or no picture"):
        read(folder)


def test_a_picture_that_is_cut_short_is_named(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "short.png")
    (folder / "short.png").write_bytes((folder / "short.png").read_bytes()[:800])
    with pytest.raises(DataUnavailable, match=r"^short\.png in"):
        read(folder)


def test_a_picture_that_may_not_be_opened_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    place(folder / "secret.png")
    monkeypatch.setattr(Image, "open", forbidden)
    with pytest.raises(DataUnavailable, match=r"^secret\.png in .* cannot be opened"):
        read(folder)


def test_a_folder_without_pictures_is_refused(folder: Path) -> None:
    (folder / "notes.txt").write_bytes(b"")
    with pytest.raises(DataUnavailable, match=r"holds no pictures; files that end in \.png"):
        read(folder)


def test_many_pictures_stay_on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(folder / "a.png", shade=51)
    whole = read(folder)
    monkeypatch.setattr(rows_module, "MEMORY_BYTES", 0)
    data = read(folder)
    assert isinstance(data.features, Rows)
    assert data.digest == whole.digest
    assert list((folder.parent / "runs").iterdir()) == []
