"""Data sets in the IDX files of MNIST's layout: found on this machine, else downloaded."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bundle.manifest import ImageSpec
from training.corruption import Range
from training.dataset import DataSet
from training.errors import DataUnavailable

__all__ = ["Idx", "read_idx"]

PACKAGED = Path("/usr/share/datasets")  # where Debian's dataset packages put their files
IDX_UNSIGNED_BYTES = 8


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array of unsigned bytes in an IDX file, plain or gzipped (format: yann.lecun.com/exdb/mnist).

    Raises DataUnavailable when the file is not one, or not all of one.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataUnavailable(f"{path} cannot be read ({error}); fetch the file anew") from None
    if len(content) < 4 or content[:3] != bytes([0, 0, IDX_UNSIGNED_BYTES]):
        raise DataUnavailable(f"{path} is not an IDX file of unsigned bytes")
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) != start + math.prod(shape):
        raise DataUnavailable(
            f"{path} holds {len(content)} bytes where its heading asks for {start + math.prod(shape)}; "
            "fetch the file anew"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


@dataclass(frozen=True, kw_only=True)
class Idx:
    """A data set in the four IDX files of MNIST's layout."""

    title: str
    folder: str
    torchvision_class: str
    debian_package: str | None = None
    label_names: tuple[str, ...] | None = None
    range: Range = (0.0, 1.0)

    def __call__(self, folder: Path) -> DataSet:
        place = self._find(folder)
        parts = []
        for part in ("train", "t10k"):
            images, labels = (
                read_idx(_one_of(place, f"{part}-{kind}-ubyte")) for kind in ("images-idx3", "labels-idx1")
            )
            if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
                raise DataUnavailable(f"{self.title}: the {part} files must hold equally many images and labels")
            parts.append((images, labels))
        (train_images, train_labels), (test_images, test_labels) = parts
        if train_images.shape[1:] != test_images.shape[1:]:
            raise DataUnavailable(f"{self.title}: training and test images must have one size")
        images = np.concatenate([train_images, test_images])
        _, height, width = images.shape
        return DataSet(
            source=self.title,
            features=torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / np.float32(255)),
            labels=torch.from_numpy(np.concatenate([train_labels, test_labels]).astype(np.int64)),
            range=self.range,
            image=ImageSpec(height=height, width=width, channels=1),
            own_test=len(train_images),
            label_names=self.label_names,
        )

    def _find(self, folder: Path) -> Path:
        # The second is where torchvision puts what it downloads.
        candidates = [folder / self.folder, folder / self.torchvision_class / "raw", PACKAGED / self.folder]
        for candidate in candidates:
            if any(candidate.glob("train-images-idx3-ubyte*")):
                return candidate
        from torchvision import datasets

        try:
            getattr(datasets, self.torchvision_class)(folder, download=True)
        except (OSError, RuntimeError) as error:
            package = f" install Debian's {self.debian_package}, or" if self.debian_package else ""
            reason = str(error).partition("\n")[0].strip(" :") or type(error).__name__
            raise DataUnavailable(
                f"{self.title} is not on this machine and could not be downloaded ({reason}):{package} "
                f"put its four IDX files into {candidates[0]}"
            ) from None
        return candidates[1]


def _one_of(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise DataUnavailable(f"{folder} lacks {name}.gz; the four files of a data set belong together")
