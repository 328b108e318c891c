"""Data sets by name, and their division into splits that share no row."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from training.corruption import Range
from training.dataset import DataSet
from training.errors import DataUnavailable
from training.sources.digits import Digits
from training.sources.files import Files
from training.sources.idx import Idx

__all__ = ["SOURCES", "DataSet", "Source", "SplitSizes", "Splits", "load", "split"]


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


def load(source: str | Files, folder: Path) -> DataSet:
    """The data set named `source`, one of SOURCES, looked for in `folder` before anywhere else; or the user's files, of
    which `folder` then holds what does not fit into memory.

    Raises DataUnavailable, KeyError for an unknown source, OSError when the disk refuses.
    """
    return SOURCES[source](folder) if isinstance(source, str) else source(folder)


class Source(Protocol):
    """Where a data set comes from: loads it when called with the folder to look through first, or raises
    DataUnavailable."""

    @property
    def range(self) -> Range:
        """The declared lowest and highest value, known before anything is loaded; None when there is none."""

    def __call__(self, folder: Path, /) -> DataSet: ...


# github.com/zalandoresearch/fashion-mnist, section "Labels", shortened
CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")

SOURCES: dict[str, Source] = {
    "digits": Digits(),
    "fashion-mnist": Idx(
        title="Fashion-MNIST",
        folder="fashion-mnist",
        torchvision_class="FashionMNIST",
        debian_package="dataset-fashion-mnist",
        label_names=CLOTHES,
    ),
    "mnist": Idx(title="MNIST", folder="mnist", torchvision_class="MNIST"),
}
