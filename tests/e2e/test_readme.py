"""What the README tells a new user to type works as it stands."""

import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from service.settings import Settings
from tests.e2e.conftest import ROOT, Server

README = (ROOT / "README.md").read_text()


def picture(path: Path) -> Image.Image:
    """The grey picture in this file, decoded."""
    with Image.open(path) as image:
        return image.convert("L")


@pytest.fixture
def calls(curl: str) -> str:  # noqa: ARG001 (they need it)
    """The README's block of calls."""
    (block,) = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return str(block)


def test_the_calls_give_what_they_say(server: Server, tmp_path: Path, calls: str) -> None:
    assert calls.count("curl") > 8
    script = calls.replace("http://127.0.0.1:8000", server.address).replace("curl -s ", "curl -s --fail-with-body ")
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    sizes = {path.name: picture(path).size for path in tmp_path.iterdir()}
    assert sizes == {
        "shirt.png": (28, 28),
        "reconstruction.png": (28, 28),
        "denoised.png": (28, 28),
        "heat.png": (28, 28),
        "samples.png": (238, 238),
        "interpolation.png": (298, 28),
    }
    assert '"is_anomaly":[false]' in ended.stdout


def test_the_pictures_are_those_that_the_calls_give(server: Server, tmp_path: Path, calls: str) -> None:
    """The committed pictures may be enlarged, but show what the shipped bundles answer."""
    script = calls.replace("http://127.0.0.1:8000", server.address)
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    for name in ("samples.png", "interpolation.png"):
        fresh = picture(tmp_path / name)
        committed = picture(ROOT / "docs" / "pictures" / name).resize(fresh.size, Image.Resampling.NEAREST)
        differences = [abs(a - b) for a, b in zip(fresh.tobytes(), committed.tobytes(), strict=True)]
        assert sum(differences) / len(differences) < 0.5


def test_the_settings_table_is_complete_and_right() -> None:
    table = dict(re.findall(r"^\| (`DIABOLO_[^|]+?) \| ([^|]+?) \|", README, re.MULTILINE))
    documented = {
        variable.strip("` "): default.strip("` ")
        for variables, defaults in table.items()
        for variable, default in zip(variables.split(","), defaults.split(","), strict=True)
    }
    defaults = {f"DIABOLO_{name.upper()}": str(field.default).lower() for name, field in Settings.model_fields.items()}
    assert documented == defaults
