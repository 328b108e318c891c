"""The whole way once, on data that every machine has: train digits, and a running server answers for them."""

import os
import subprocess
from pathlib import Path

import httpx
import numpy as np
from sklearn.datasets import load_digits

from tests.e2e.conftest import DIABOLO, ROOT, serving, wait_until_ready


def test_a_running_server_picks_up_what_is_trained_and_scores_real_digits(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    with serving(models, poll_seconds="0.2") as server:
        wait_until_ready(server.address)
        assert httpx.get(f"{server.address}/v1/models").json() == {"models": [], "refused": [], "unloaded": []}
        ended = subprocess.run(
            [*DIABOLO, "train", "digits-vae", "--epochs", "30", "--models-dir", str(models)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        wait_until_ready(server.address, model="digits-vae/1")

        digits = (load_digits().data[:400] / 16).tolist()
        noise = np.random.default_rng(0).random((100, 64)).tolist()
        path = f"{server.address}/v1/models/digits-vae/anomaly-score"
        normal = httpx.post(path, json={"inputs": digits, "alpha": 0.05}, timeout=30).json()
        strange = httpx.post(path, json={"inputs": noise, "alpha": 0.05}, timeout=30).json()
    # Most of these rows were trained on, so they are flagged no more often than alpha says, but for chance.
    assert np.mean(normal["is_anomaly"]) < 0.1
    assert np.mean(strange["is_anomaly"]) == 1
