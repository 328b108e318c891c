"""Data sources as tensors, and their division into splits that share no row."""

import gzip
import hashlib
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bundle.manifest import ImageSpec
from training.corruption import Range
from training.errors import DataUnavailable

__all__ = ["SOURCES", "DataSet", "Source", "SplitSizes", "Splits", "load", "read_idx", "split"]

PACKAGED = Path("/usr/share/datasets")  # where Debian's dataset packages put their files
IDX_UNSIGNED_BYTES = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet:
    """Rows in memory: `features` float32 (n, d) within `range`, `labels` int64 (n,), which serve evaluation only.

    Rows from `own_test` on are the source's own test file; None where the source has none.
    """

    source: str
    features: Tensor
    labels: Tensor
    range: Range
    image: ImageSpec | None
    own_test: int | None = None

    @property
    def size(self) -> int:
        """d, the number of values in a row."""
        return self.features.shape[1]

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of the shapes, the features and the labels."""
        digest = hashlib.sha256(repr((tuple(self.features.shape), self.own_test)).encode())
        digest.update(self.features.numpy().data)
        digest.update(self.labels.numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class SplitSizes:
    """Rows held out of training; what is left is trained on. `test` is None where the source has its own test file."""

    validation: int
    calibration: int
    test: int | None = None


class Splits(NamedTuple):
    """Row numbers, int64, of four splits that share no row."""

    train: Tensor
    validation: Tensor
    calibration: Tensor
    test: Tensor


def split(data: DataSet, sizes: SplitSizes, *, seed: int) -> Splits:
    """The rows divided at random by `seed`, the same for equal arguments. The source's own test file is the test split,
    in its own order, and no part of any other.

    Raises DataUnavailable when the source has fewer rows than the sizes ask for.
    """
    pool = len(data.features) if data.own_test is None else data.own_test
    held_out = [sizes.validation, sizes.calibration, sizes.test or 0]
    if pool <= sum(held_out):
        raise DataUnavailable(
            f"{data.source} has {pool} rows outside its test file; holding out {sum(held_out)} leaves none to train on"
        )
    order = torch.randperm(pool, generator=torch.Generator().manual_seed(seed))
    validation, calibration, test, train = torch.split(order, [*held_out, pool - sum(held_out)])
    if data.own_test is not None:
        test = torch.arange(data.own_test, len(data.features))
    return Splits(train, validation, calibration, test)


def load(source: str, folder: Path) -> DataSet:
    """The data set named `source`, one of SOURCES; `folder` is looked through before anything else.

    Raises DataUnavailable, and KeyError for an unknown source.
    """
    return SOURCES[source](folder)


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
class _Idx:
    """A data set in the four IDX files of MNIST's layout."""

    title: str
    folder: str
    torchvision_class: str
    debian_package: str | None = None
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


@dataclass(frozen=True, kw_only=True)
class _Digits:
    """1,797 handwritten digits of 8 x 8 pixels, which come with scikit-learn: no file and no network needed."""

    range: Range = (0.0, 1.0)

    def __call__(self, _: Path) -> DataSet:
        from sklearn.datasets import load_digits

        digits = load_digits()
        return DataSet(
            source="scikit-learn's digits",
            features=torch.from_numpy(digits.data.astype(np.float32) / np.float32(16)),
            labels=torch.from_numpy(digits.target.astype(np.int64)),
            range=self.range,
            image=ImageSpec(height=8, width=8, channels=1),
        )


class Source(Protocol):
    """Where a data set comes from: loads it when called with the folder to look through first, or raises
    DataUnavailable."""

    @property
    def range(self) -> Range:
        """The declared lowest and highest value, known before anything is loaded; None when there is none."""

    def __call__(self, folder: Path, /) -> DataSet: ...


SOURCES: dict[str, Source] = {
    "digits": _Digits(),
    "fashion-mnist": _Idx(
        title="Fashion-MNIST",
        folder="fashion-mnist",
        torchvision_class="FashionMNIST",
        debian_package="dataset-fashion-mnist",
    ),
    "mnist": _Idx(title="MNIST", folder="mnist", torchvision_class="MNIST"),
}
