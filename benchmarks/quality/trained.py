"""Networks for the rows, trained by the same loop as bundles are."""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from torch import Tensor

from bundle.manifest import ImageSpec
from training.config import Fitting
from training.data import DataSet, load
from training.fit import Epoch, fit
from training.networks import Architecture, Autoencoder, build
from training.objectives import Objective, Variational
from training.rows import Features

__all__ = ["fashion", "fashion_splits", "trained"]

VALIDATION = 2_000


@cache
def fashion() -> DataSet:
    """All 70,000 rows of Fashion-MNIST; the last 10,000 are its own test file."""
    return load("fashion-mnist", Path("data"))


def fashion_splits() -> tuple[Tensor, Tensor, Tensor]:
    """Rows (58,000, 784) to train on, (2,000, 784) to stop by, and the 10,000 of the test file."""
    features = fashion().features
    return features[: 60_000 - VALIDATION], features[60_000 - VALIDATION : 60_000], features[60_000:]


def trained(
    architecture: Architecture,
    objective: Objective,
    fitting: Fitting,
    *,
    train: Features,
    validation: Tensor,
    seed: int,
    range: tuple[float, float] | None = (0.0, 1.0),
    image: ImageSpec | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Autoencoder:
    """A network fitted to rows `train` (n, d) by `fitting`, with the weights of its best epoch on `validation` (m, d),
    in evaluation mode. Convolutions need to know what `image` a row shows."""
    network = build(
        train.shape[1],
        architecture,
        variational=isinstance(objective, Variational),
        range=range,
        image=image,
        seed=seed,
    )
    if architecture.standardise:
        network.standardise_by(train, one_scale=range is not None)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            network,
            objective,
            settings=fitting,
            train=train,
            validation=validation,
            seed=seed,
            folder=Path(folder),
            on_epoch=on_epoch,
        )
    return network
