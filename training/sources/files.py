"""The user's own data: a folder of pictures, an array or a table."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from training.corruption import Range
from training.dataset import DataSet
from training.errors import DataUnavailable
from training.sources import column_files, images
from training.sources.arrays import read_array
from training.sources.images import read_images
from training.sources.tables import read_table

__all__ = ["Dropped", "Files"]

Dropped = Literal["text", "constant", "missing"]


@dataclass(frozen=True, kw_only=True)
class Files:
    """A file or a folder and how it is read: what its name ends in says what it is.

    `image_size` (height, width) and `colours` are for folders of pictures, `label`, the column with the labels, for
    tables; `drop` says what is left out instead of refused. `range` is what the rows were found to lie in.
    """

    path: str
    image_size: tuple[int, int] | None = None
    colours: Literal["grey", "colour"] | None = None
    label: str | None = None
    drop: tuple[Dropped, ...] = ()
    range: Range = None

    def __call__(self, folder: Path) -> DataSet:
        """The rows; what does not fit into memory lies in `folder` until the process ends, in files without a name.

        Raises DataUnavailable, and OSError when the disk refuses.
        """
        path, drop = Path(self.path), frozenset(self.drop)
        name = path.name.lower()
        pictures, table = path.is_dir(), name.endswith(column_files.SUFFIXES)
        if not path.exists():
            raise DataUnavailable(f"there is no file and no folder at {path}")
        for option, given, fits, what in (
            ("--image-size", self.image_size, pictures, "a folder of pictures"),
            ("--grey and --colour", self.colours, pictures, "a folder of pictures"),
            ("--label", self.label, table, "a table"),
        ):
            if given is not None and not fits:
                raise DataUnavailable(f"{option} is for {what}, which {path} is not")
        if pictures:
            return read_images(path, size=self.image_size, colours=self.colours, work=folder)
        if table:
            return read_table(path, label=self.label, drop=drop, work=folder)
        if name.endswith((".npy", ".npz")):
            return read_array(path, drop=drop)
        raise DataUnavailable(
            f"{path} is of no kind that is read: a folder of pictures ({', '.join(images.SUFFIXES)}), "
            f"or a file that ends in .npy, .npz, {', '.join(column_files.SUFFIXES)}"
        )

    def faults(self) -> list[str]:
        """What contradicts itself, in words; empty when nothing does."""
        found = []
        if self.image_size is not None and not all(1 <= side <= 4096 for side in self.image_size):
            found.append("pictures are between 1 and 4096 pixels high and wide")
        if unknown := set(self.drop) - set(get_args(Dropped)):
            found.append(
                f"nothing called {', '.join(sorted(unknown))} can be left out; there are text, constant, missing"
            )
        return found
