"""A data set, a configuration and a trained run small enough for every test."""

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from bundle.manifest import ImageSpec
from training import publish
from training.config import Config, Fitting
from training.data import DataSet, SplitSizes
from training.networks import Architecture
from training.objectives import Variational
from training.publish import Places


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Sums this small are slower among several threads."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _without_onnx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX takes seconds to export, so runs are published without, but for tests that ask for `onnx`."""
    if "onnx" not in request.fixturenames:
        monkeypatch.setattr(publish, "onnx_files", lambda *_, **__: {})


@pytest.fixture
def onnx() -> None:
    """Runs are published with ONNX, as they are everywhere else."""


@pytest.fixture
def rows() -> Tensor:
    """200 rows of 12 values in [0, 1] that vary in three directions."""
    generator = Generator().manual_seed(1)
    return torch.sigmoid(
        torch.randn(200, 3, generator=generator) @ torch.randn(3, 12, generator=generator)
        + 0.1 * torch.randn(200, 12, generator=generator)
    )


@pytest.fixture
def data(rows: Tensor) -> DataSet:
    """The rows as pictures of 3 x 4 pixels; the last 50 are the test file."""
    return DataSet(
        source="made-up pictures",
        features=rows,
        labels=torch.arange(len(rows)) % 10,
        range=(0.0, 1.0),
        image=ImageSpec(height=3, width=4, channels=1),
        own_test=150,
    )


@pytest.fixture
def config() -> Config:
    """A variational run on scikit-learn's digits, of three epochs."""
    return Config(
        recipe="tiny",
        description="A tiny run",
        source="digits",
        splits=SplitSizes(validation=97, calibration=300, test=400),
        architecture=Architecture(hidden=(16,), latent=3),
        objective=Variational(),
        fitting=Fitting(epochs=3, batch_size=100, threads=1),
    )


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Folders of this test alone."""
    return Places(models=tmp_path / "models", data=tmp_path / "data", runs=tmp_path / "runs")
