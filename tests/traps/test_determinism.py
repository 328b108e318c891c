"""Scores and codes must not be drawn: the same request has the same answer, to the last byte, and nobody's random state
is another one after it."""

import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from service.app import create_app
from service.settings import Settings

MODELS = Path(__file__).parents[2] / "models"
INPUTS = [[index / 784 for index in range(784)]]
REQUESTS: dict[str, dict[str, Any]] = {
    "encode": {"inputs": INPUTS, "log_variances": True},
    "decode": {"latents": [[0.5] * 20]},
    "reconstruct": {"inputs": INPUTS},
    "anomaly-score": {"inputs": INPUTS, "maps": True},
    "sample": {"count": 3, "seed": 5},
    "interpolate": {"space": "seeds", "start": 1, "end": 2, "steps": 4},
}


@pytest.fixture(scope="module", params=["torchscript", "onnx"])
async def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """The service over the shipped variational bundle."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(MODELS / "fashion-vae", folder / "fashion-vae")
    app = create_app(Settings(models_dir=folder, runtime=request.param, device="cpu", poll_seconds=3600))
    await app.state.repository.refresh()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://diabolo/v1/models/fashion-vae") as client,
    ):
        yield client


@pytest.mark.parametrize("operation", REQUESTS)
async def test_the_same_request_has_the_same_answer_and_touches_no_global_generator(
    client: httpx.AsyncClient, operation: str
) -> None:
    states = random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()
    fields = {"X-Request-ID": "the-same"}
    first, second = [await client.post(operation, json=REQUESTS[operation], headers=fields) for _ in range(2)]
    assert first.status_code == 200, first.text
    assert first.content == second.content
    assert (random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()) == states


async def test_row_3_of_a_sample_is_the_sample_from_there(client: httpx.AsyncClient) -> None:
    async def outputs(**fields: int) -> np.ndarray:
        response = await client.post("sample", json=fields)
        return np.array(response.json()["outputs"])

    whole, one = await outputs(count=8, seed=11), await outputs(count=1, seed=11, offset=3)
    np.testing.assert_allclose(whole[3], one[0], rtol=1e-4, atol=1e-5)
    assert np.abs(whole[3] - whole[4]).max() > 0.1
