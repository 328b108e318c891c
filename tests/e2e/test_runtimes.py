"""One bundle behind either runtime: the same answers, and with ONNX a server that has no torch in its memory."""

import os
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
from sklearn.datasets import load_digits

from bundle.read import read_bundle
from tests.e2e.conftest import DIABOLO, ROOT, Server, serving, wait_until_ready

DIGITS = (load_digits().data[:200] / 16).tolist()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small bundle, trained as anybody would."""
    folder = tmp_path_factory.mktemp("digits")
    subprocess.run(
        [*DIABOLO, "train", "digits-vae", "--epochs", "2", "--models-dir", str(folder / "models")],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=90,
        check=True,
    )
    return folder / "models"


def answers(server: Server) -> dict[str, np.ndarray]:
    """Everything that the bundle can be asked, as arrays."""
    found: dict[str, np.ndarray] = {}
    for operation, body, fields in (
        ("encode", {"inputs": DIGITS}, ("latents",)),
        ("reconstruct", {"inputs": DIGITS}, ("outputs", "errors")),
        ("anomaly-score", {"inputs": DIGITS}, ("scores", "p_values")),
        ("sample", {"count": 20, "seed": 3}, ("latents", "outputs")),
        ("interpolate", {"start": DIGITS[0], "end": [DIGITS[1]], "steps": 5}, ("outputs",)),
    ):
        response = httpx.post(f"{server.address}/v1/models/digits-vae/{operation}", json=body, timeout=30)
        assert response.status_code == 200, response.text
        found |= {f"{operation}.{field}": np.asarray(response.json()[field]) for field in fields}
    return found


def libraries(server: Server) -> set[str]:
    """Which of the two is mapped into the server's memory."""
    mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    return {name for name in ("libtorch", "onnxruntime") if name in mapped}


def test_both_runtimes_answer_alike_and_onnx_needs_no_torch(digits: Path) -> None:
    found = {}
    for runtime, library, platform in (
        ("onnx", "onnxruntime", "onnxruntime_onnx"),
        ("torchscript", "libtorch", "pytorch_torchscript"),
    ):
        with serving(digits, runtime=runtime, device="cpu", strict="1") as server:
            wait_until_ready(server.address)
            found[runtime] = answers(server)
            assert httpx.get(f"{server.address}/v2/models/digits-vae").json()["platform"] == platform
            assert libraries(server) == {library}
    first, second = found["onnx"], found["torchscript"]
    calibration = read_bundle(digits / "digits-vae" / "1").calibration
    assert calibration is not None
    off = np.abs(first.pop("anomaly-score.p_values") - second.pop("anomaly-score.p_values"))
    assert off.max() <= 2 / (calibration.size + 1) + 1e-9
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert len(first) == 7
