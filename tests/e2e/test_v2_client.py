"""The Open Inference Protocol, spoken by a client that is not ours: Triton's."""

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from bundle.calibration import Floats
from tests.e2e.conftest import SHIPPED, Server


@pytest.fixture
def client(server: Server) -> triton.InferenceServerClient:
    """Triton's client of the running server."""
    return triton.InferenceServerClient(server.address.removeprefix("http://"))


def rows_input(rows: Floats, *, binary: bool, datatype: str = "FP32") -> triton.InferInput:
    tensor = triton.InferInput("input", list(rows.shape), datatype)
    tensor.set_data_from_numpy(rows, binary_data=binary)
    return tensor


def test_health_metadata_and_index(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fashion-vae")
    assert client.is_model_ready("fashion-vae", "1")
    assert not client.is_model_ready("nobody")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("fashion-vae")["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": [-1, 784]}
    ]
    assert [entry["name"] for entry in client.get_model_repository_index()] == SHIPPED


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_json_and_raw_tensors_both_ways_give_the_numbers_of_v1(
    server: Server, client: triton.InferenceServerClient, clothes: Floats, binary_in: bool, binary_out: bool
) -> None:
    rows = clothes[:5]
    names = ["reconstruction", "latent", "score", "p_value", "is_anomaly", "anomaly_map"]
    result = client.infer(
        "fashion-vanilla",
        [rows_input(rows, binary=binary_in)],
        outputs=[triton.InferRequestedOutput(name, binary_data=binary_out) for name in names],
        request_id="7",
    )
    address = f"{server.address}/v1/models/fashion-vanilla"
    body = {"inputs": rows.tolist()}
    scored = httpx.post(f"{address}/anomaly-score", json={**body, "maps": True}, timeout=30).json()
    expected = {
        "reconstruction": httpx.post(f"{address}/reconstruct", json=body, timeout=30).json()["outputs"],
        "latent": httpx.post(f"{address}/encode", json=body, timeout=30).json()["latents"],
        "score": scored["scores"],
        "p_value": scored["p_values"],
        "is_anomaly": scored["is_anomaly"],
        "anomaly_map": scored["maps"],
    }
    assert result.get_response()["id"] == "7"
    for name, values in expected.items():
        answered = result.as_numpy(name)
        assert answered.shape == np.shape(values), name
        assert np.allclose(answered, np.asarray(values, answered.dtype), rtol=1e-5, atol=1e-7), name


def test_half_precision_is_taken(client: triton.InferenceServerClient, clothes: Floats) -> None:
    rows = clothes[:3]
    half = client.infer("fashion-vae", [rows_input(rows.astype(np.float16), binary=True, datatype="FP16")])
    whole = client.infer("fashion-vae", [rows_input(rows, binary=True)])
    assert half.as_numpy("reconstruction") == pytest.approx(whole.as_numpy("reconstruction"), abs=1e-2)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_requests_are_taken(client: triton.InferenceServerClient, clothes: Floats, coding: str) -> None:
    tensors = [rows_input(clothes[:3], binary=True)]
    packed = client.infer("fashion-vae", tensors, request_compression_algorithm=coding)
    plain = client.infer("fashion-vae", tensors)
    assert packed.as_numpy("reconstruction") == pytest.approx(plain.as_numpy("reconstruction"))


def test_an_error_reaches_the_client_as_a_sentence(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"the array has the shape \[1, 5\]"):
        client.infer("fashion-vae", [rows_input(np.zeros((1, 5), np.float32), binary=True)])
