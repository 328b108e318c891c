"""A published bundle to attack, and a guard that fails the test when anything of it is deserialised."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from bundle.calibration import Calibration
from bundle.golden import Golden
from tests.bundle_factory import publish

# The same examples on every machine, and no deadline: two busy cores say nothing about the code.
settings.register_profile("bundle", derandomize=True, deadline=None)
settings.load_profile("bundle")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A valid bundle, tiny/1."""
    return publish(tmp_path / "models")


@pytest.fixture
def nothing_is_deserialised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test, past any `except Exception`, when the probe or the calibration are parsed."""

    def forbidden(name: str) -> Callable[..., None]:
        return lambda *_args, **_kwargs: pytest.fail(f"{name} was called on a damaged bundle")

    monkeypatch.setattr(Golden, "from_bytes", forbidden("Golden.from_bytes"))
    monkeypatch.setattr(Calibration, "from_bytes", forbidden("Calibration.from_bytes"))
    monkeypatch.setattr(np, "load", forbidden("numpy.load"))
    monkeypatch.setattr(np.lib.format, "read_array", forbidden("numpy.lib.format.read_array"))
