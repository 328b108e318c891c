"""The Open Inference Protocol, spoken by KServe's client, which pins old packages: it needs its own environment."""

import json
import os
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.e2e.conftest import Server

VARIABLE = "DIABOLO_KSERVE_PYTHON"
CLIENT = Path(__file__).with_name("kserve_client.py")


# kserve pins older releases of packages that the project needs, so it cannot be in this environment, in CI neither.
@pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no Python of an environment with kserve")
def test_json_and_raw_tensors_give_the_numbers_of_v1(server: Server) -> None:
    command = [os.environ[VARIABLE], str(CLIENT), server.address]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, True)
    address = f"{server.address}/v1/models/fashion-vae"
    body = {"inputs": found["rows"]}
    scored = httpx.post(f"{address}/anomaly-score", json=body, timeout=30).json()
    expected = {
        "reconstruction": httpx.post(f"{address}/reconstruct", json=body, timeout=30).json()["outputs"],
        "score": scored["scores"],
        "is_anomaly": scored["is_anomaly"],
    }
    for travelled in ("json", "binary"):
        assert found[travelled].keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(np.float32(found[travelled][name]), np.float32(values))
