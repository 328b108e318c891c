"""Tests of the service: asyncio alone, no settings from outside, the same hypothesis examples on every machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("service", derandomize=True, deadline=None)
settings.load_profile("service")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """What anyio's plugin runs coroutine tests on."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("DIABOLO_")]:
            patch.delenv(variable)
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder of bundles."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder
