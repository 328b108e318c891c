"""A real server process on a real port, with real images."""

import contextlib
import gzip
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest

from bundle.calibration import Floats

ROOT = Path(__file__).parents[2]
DIABOLO = [sys.executable, "-c", "from cli.main import main; main()"]
FASHION = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
SHIPPED = [
    "fashion-contractive",
    "fashion-conv",
    "fashion-denoising",
    "fashion-k-sparse",
    "fashion-kl-sparse",
    "fashion-linear",
    "fashion-vae",
    "fashion-vanilla",
]
SHIRT = 4


class Server(NamedTuple):
    """A running `diabolo serve`."""

    process: "subprocess.Popen[str]"
    address: str
    announcement: str


@contextlib.contextmanager
def serving(models_dir: Path, **settings: str) -> Iterator[Server]:
    """A server over these bundles, on a free port; killed at the end if it still runs."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("DIABOLO_")}
    settings = {"workers": "1"} | settings
    variables |= {f"DIABOLO_{name.upper()}": value for name, value in settings.items()}
    variables |= {"DIABOLO_MODELS_DIR": str(models_dir), "DIABOLO_PORT": "0", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([*DIABOLO, "serve"], cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        announcement = ""
        while "picture.png" not in announcement:
            line = process.stdout.readline()
            assert line, "the server ended before it said where it is"
            announcement += line
        found = re.search(r"https?://\S+", announcement)
        assert found is not None
        yield Server(process, found.group(), announcement)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_until_ready(address: str, *, model: str | None = None, trust: ssl.SSLContext | bool = True) -> None:
    """Returns when the server is ready and serves `model`, if one is named; over HTTPS to those who `trust` it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = httpx.get(f"{address}/readyz", verify=trust)
        if state.status_code == 200 and (model is None or model in str(state.json()["serving"])):
            return
        time.sleep(0.05)
    pytest.fail(f"not ready within a minute: {state.text}")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the shipped bundles alone, whatever else was trained into models/ meanwhile."""
    folder = tmp_path_factory.mktemp("models")
    for name in SHIPPED:
        shutil.copytree(ROOT / "models" / name / "1", folder / name / "1")
    return folder


@pytest.fixture(scope="session")
def server(shipped: Path) -> Iterator[Server]:
    """A ready server over the shipped bundles."""
    with serving(shipped) as running:
        wait_until_ready(running.address)
        yield running


@pytest.fixture(scope="session")
def clothes() -> Floats:
    """The 10,000 test images of Fashion-MNIST, float32 of shape (10000, 784) in [0, 1]."""
    if not FASHION.is_file():
        # `make test` promises to need the package registries alone; CI installs this, and skips fail there (NO_SKIPS).
        pytest.skip("Fashion-MNIST is not on this machine: install Debian's package dataset-fashion-mnist")
    with gzip.open(FASHION) as file:
        pixels = np.frombuffer(file.read(), dtype=np.uint8, offset=16)
    return (pixels.reshape(-1, 784) / np.float32(255)).astype(np.float32)


@pytest.fixture
def curl() -> str:
    """The program that the README calls."""
    found = shutil.which("curl")
    if found is None:
        # As for the data above: no Python package brings it, and CI does not skip.
        pytest.skip("curl is not on this machine: install Debian's package curl")
    return found
