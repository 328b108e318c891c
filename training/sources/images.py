"""A folder of pictures, of any size, as rows of one size."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from bundle.manifest import ImageSpec
from training.dataset import DataSet
from training.errors import DataUnavailable
from training.rows import Rows, held
from training.sources.labels import numbered
from training.spool import Spool

__all__ = ["SUFFIXES", "read_images"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
LONGEST_SIDE = 64  # of what is made without being asked for a size
ORIENTATION = 0x0112
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")


class _Outline(NamedTuple):
    """What a picture's heading says: the size in pixels as it is looked at, and whether it has colours."""

    height: int
    width: int
    colour: bool


def read_images(
    folder: Path, *, size: tuple[int, int] | None, colours: Literal["grey", "colour"] | None, work: Path
) -> DataSet:
    """The pictures below `folder`, in the order of their paths, values in [0, 1]; each is turned as its camera says,
    and brought to the `size` (height, width) with antialiasing, whatever that does to its proportions.

    Without `size` it is the one that most of them have, made smaller until no side is above 64 pixels. Without
    `colours` they are in colour as soon as one is. What is transparent becomes white. The labels are the names of the
    folders right below `folder`, where there is more than one. Hidden files, and files that are called no picture, are
    passed over; what does not fit into memory is kept in `work`. Raises DataUnavailable, and OSError when the disk
    refuses.
    """
    paths = [path for path in sorted(_walk(folder)) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise DataUnavailable(f"{folder} holds no pictures; files that end in {', '.join(SUFFIXES)} are read")
    outlines = [_outline(path, folder) for path in paths]
    height, width = size or _common_size(outlines)
    colour = any(outline.colour for outline in outlines) if colours is None else colours == "colour"
    with Spool(work, dtype=np.uint8) as spool:
        for path in paths:
            spool.append(_pixels(path, folder, height=height, width=width, colour=colour).reshape(1, -1))
        pixels = spool.array()
    parents = [path.relative_to(folder).parts[0] if path.parent != folder else "" for path in paths]
    codes, names = numbered(parents) if len(set(parents)) > 1 else (None, None)
    return DataSet(
        source=f"the pictures in {folder.resolve().name}",
        features=held(Rows(pixels, torch.arange(len(paths)), (lambda x: x / 255,))),
        labels=codes,
        range=(0.0, 1.0),
        image=ImageSpec(height=height, width=width, channels=3 if colour else 1),
        label_names=names,
    )


def _walk(folder: Path) -> Iterator[Path]:
    """The files below `folder` that are not hidden, nor in a hidden folder."""
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise DataUnavailable(f"{folder} cannot be read ({error.strerror})") from None
    for entry in entries:
        if not entry.name.startswith("."):
            if entry.is_dir():
                yield from _walk(entry)
            else:
                yield entry


def _outline(path: Path, folder: Path) -> _Outline:
    try:
        with Image.open(path) as picture:
            turned = picture.getexif().get(ORIENTATION) in TURNED
            width, height = reversed(picture.size) if turned else picture.size
            return _Outline(height, width, picture.mode not in GREY_MODES)
    except Exception as error:  # of damaged files Pillow says OSError, SyntaxError, struct.error and more
        raise _unreadable(path, folder, error) from None


def _common_size(outlines: Sequence[_Outline]) -> tuple[int, int]:
    """The most frequent height and width, of equally frequent ones the smallest, with no side above 64."""
    counts = Counter((outline.height, outline.width) for outline in outlines)
    height, width = min(counts, key=lambda size: (-counts[size], size))
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _pixels(path: Path, folder: Path, *, height: int, width: int, colour: bool) -> npt.NDArray[Any]:
    """The picture in this file, uint8 (height, width, 1 or 3)."""
    mode = "RGB" if colour else "L"
    try:
        with Image.open(path) as opened:
            opened.draft(mode, (2 * width, 2 * height))  # a JPEG far larger than that need not be decoded in full
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow's conversions would clip to 8
                picture = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
            if picture.has_transparency_data:
                paper = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(paper, picture.convert("RGBA"))
            picture = picture.convert(mode)
            if picture.size != (width, height):
                picture = picture.resize((width, height), Image.Resampling.LANCZOS)
            return np.asarray(picture).reshape(height, width, -1)
    except Exception as error:  # see above
        raise _unreadable(path, folder, error) from None


def _unreadable(path: Path, folder: Path, error: Exception) -> DataUnavailable:
    reason = "it cannot be opened" if isinstance(error, PermissionError) else "it is damaged, or no picture"
    return DataUnavailable(f"{path.relative_to(folder)} in {folder} cannot be read: {reason}; mend it or take it out")
