"""Tests of the service: asyncio alone, no settings from outside, the same hypothesis examples on every machine."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.bundle_factory import publish
from tests.service.serving import Served, publish_all, serving

settings.register_profile("service", derandomize=True, deadline=None)
settings.load_profile("service")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What anyio's plugin runs coroutine tests on."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith(("DIABOLO_", "OTEL_"))]:
            patch.delenv(variable)
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder of bundles."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def three(root: Path) -> Path:
    """A folder with three versions of one bundle."""
    for version in (1, 2, 3):
        publish(root, version=version)
    return root


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle of each kind, to be read only."""
    return publish_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
async def served(models: Path) -> AsyncIterator[Served]:
    """The app over those bundles, shared by the tests of a module."""
    async with serving(models) as app:
        yield app
