"""The Open Inference Protocol over tiny bundles: its forms, its errors, and the same numbers as /v1."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from bundle.operations import Method
from tests.service.serving import ROWS, Served

HEADER = "Inference-Header-Content-Length"


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "input", "shape": [2, 4], "datatype": "FP32", "data": ROWS} | changes


def binary(values: Any, dtype: str = "<f4", *, datatype: str = "FP32", **request: Any) -> dict[str, Any]:
    """What httpx needs to send these values as raw bytes after the JSON."""
    array = np.asarray(values, dtype)
    entry = {"name": "input", "shape": list(array.shape), "datatype": datatype}
    head = json.dumps({"inputs": [{**entry, "parameters": {"binary_data_size": array.nbytes}}], **request}).encode()
    return {"content": head + array.tobytes(), "headers": {HEADER: str(len(head))}}


async def infer(served: Served, name: str = "tiny", **arguments: Any) -> httpx.Response:
    return await served.client.post(f"/v2/models/{name}/infer", **arguments)


async def outputs(served: Served, name: str = "tiny", **request: Any) -> dict[str, dict[str, Any]]:
    response = await infer(served, name, json={"inputs": [tensor()], **request})
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


def assert_refused(response: httpx.Response, status: int, *, says: str) -> None:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    assert list(response.json()) == ["error"]
    assert says in response.json()["error"]


@pytest.fixture
def methods(served: Served) -> Iterator[list[Method]]:
    """What the programs are asked for meanwhile, in order."""
    asked: list[Method] = []
    served.program.fails = lambda method, _: asked.append(method)
    yield asked
    served.program.fails = None


async def test_without_outputs_and_operation_only_the_reconstruction_is_computed(
    served: Served, methods: list[Method]
) -> None:
    found = await outputs(served)
    assert list(found) == ["reconstruction"]
    assert methods == [Method.RECONSTRUCT]


async def test_only_what_is_asked_for_is_computed_and_answered_in_that_order(
    served: Served, methods: list[Method]
) -> None:
    found = await outputs(served, outputs=[{"name": "p_value"}, {"name": "latent"}])
    assert list(found) == ["p_value", "latent"]
    assert sorted(methods) == [Method.ANOMALY_SCORE, Method.ENCODE]
    methods.clear()
    assert list(await outputs(served, outputs=[{"name": "anomaly_map"}])) == ["anomaly_map"]
    assert methods == [Method.ANOMALY_MAP]


@pytest.mark.parametrize(
    ("operation", "names"),
    [
        ("reconstruct", ["reconstruction"]),
        ("encode", ["latent"]),
        ("anomaly_score", ["score", "p_value", "is_anomaly"]),
    ],
)
async def test_an_operation_gives_its_outputs(served: Served, operation: str, names: list[str]) -> None:
    assert list(await outputs(served, parameters={"operation": operation})) == names


async def test_the_numbers_are_those_of_v1(served: Served) -> None:
    body = {"inputs": ROWS}
    scored = (await served.post("tiny/anomaly-score", json={**body, "maps": True, "alpha": 0.5})).json()
    everything = ["reconstruction", "latent", "score", "p_value", "is_anomaly", "anomaly_map"]
    found = await outputs(served, outputs=[{"name": name} for name in everything], parameters={"alpha": 0.5})
    expected = {
        "reconstruction": (await served.post("tiny/reconstruct", json=body)).json()["outputs"],
        "latent": (await served.post("tiny/encode", json=body)).json()["latents"],
        "score": scored["scores"],
        "p_value": scored["p_values"],
        "is_anomaly": scored["is_anomaly"],
        "anomaly_map": scored["maps"],
    }
    for name, values in expected.items():
        assert found[name]["data"] == np.asarray(values).reshape(-1).tolist(), name
        assert found[name]["shape"] == list(np.shape(values)), name
    denoised = await outputs(served, "denoiser", outputs=[{"name": "denoised"}])
    v1 = (await served.post("denoiser/denoise", json=body)).json()["outputs"]
    assert denoised["denoised"]["data"] == np.ravel(v1).tolist()


async def test_the_id_and_the_version_are_told(served: Served) -> None:
    request = {"id": "a-7", "model_name": "tiny", "model_version": "2", "inputs": [tensor()]}
    newest = (await infer(served, json=request)).json()
    assert (newest["model_name"], newest["model_version"], newest["id"]) == ("tiny", "2", "a-7")
    first = (await served.client.post("/v2/models/tiny/versions/1/infer", json={"inputs": [tensor()]})).json()
    assert (first["model_version"], "id" in first) == ("1", False)


async def test_values_may_be_flat_or_nested_and_of_any_type_of_number(served: Served) -> None:
    nested = await outputs(served)
    flat = await infer(served, json={"inputs": [tensor(data=np.ravel(ROWS).tolist())]})
    assert flat.json()["outputs"][0]["data"] == nested["reconstruction"]["data"]
    whole = [[0, 1, 1, 0], [1, 0, 0, 1]]
    as_floats = (await infer(served, json={"inputs": [tensor(data=whole)]})).json()["outputs"]
    for datatype in ("FP64", "INT8", "INT64", "UINT8", "UINT16"):
        response = await infer(served, json={"inputs": [tensor(data=whole, datatype=datatype)]})
        assert response.json()["outputs"] == as_floats, datatype


@pytest.mark.parametrize(("datatype", "dtype"), [("FP32", "<f4"), ("FP64", "<f8"), ("FP16", "<f2")])
async def test_raw_tensors_are_read(served: Served, datatype: str, dtype: str) -> None:
    expected = (await outputs(served))["reconstruction"]["data"]
    response = await infer(served, **binary(ROWS, dtype, datatype=datatype))
    assert response.headers["content-type"] == "application/json"
    assert response.json()["outputs"][0]["data"] == expected


async def test_raw_answers_follow_the_json_in_order_and_each_output_may_choose(served: Served) -> None:
    asked = [{"name": "latent"}, {"name": "score", "parameters": {"binary_data": False}}, {"name": "is_anomaly"}]
    response = await infer(
        served, **binary(ROWS, outputs=asked, parameters={"binary_data_output": True, "threshold": 0.1})
    )
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers[HEADER])
    latent, score, verdict = json.loads(response.content[:length])["outputs"]
    v1 = await served.post("tiny/anomaly-score", json={"inputs": ROWS, "threshold": 0.1})
    assert score["data"] == v1.json()["scores"]
    assert "data" not in latent
    split = length + latent["parameters"]["binary_data_size"]
    codes = np.frombuffer(response.content[length:split], "<f4").reshape(latent["shape"])
    assert codes.tolist() == (await served.post("tiny/encode", json={"inputs": ROWS})).json()["latents"]
    assert verdict["parameters"]["binary_data_size"] == len(response.content) - split == 2
    assert np.frombuffer(response.content[split:], bool).tolist() == v1.json()["is_anomaly"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "x"}, "the only input is called 'input'"),
        ({"datatype": "BYTES"}, "the datatype must be one of"),
        ({"datatype": "BOOL"}, "the datatype must be one of"),
        ({"datatype": "fp32"}, "#/inputs/0/datatype"),
        ({"datatype": "FP16"}, "send it as binary data"),
        ({"shape": [2, 5]}, "the array has the shape [2, 5]"),
        ({"shape": []}, "lengths"),
        ({"shape": [-1, 4]}, "lengths"),
        ({"shape": [0, 4]}, "there are no rows"),
        ({"shape": [3, 4]}, "there are 2 rows, and the shape says 3"),
        ({"shape": [2**62, 4]}, "at most"),
        ({"data": None}, "neither `data` nor"),
        ({"data": [[0, 1, 2, 3], [0, 1, "2", 3]]}, "#/inputs/0/data/1/2"),
        ({"data": [0, 1, 2, 3, 4, 5, 6]}, "#/inputs/0/data"),
        ({"data": [0, 1, 2, 3, 4, 5, "6", 7]}, "#/inputs/0/data/6:"),
        ({"extra": 1}, "#/inputs/0/extra"),
        ({"parameters": {"binary_data_size": 32}}, "bytes"),
    ],
)
async def test_a_wrong_tensor_is_refused_with_what_is_wrong(served: Served, changes: dict[str, Any], says: str) -> None:
    response = await infer(served, json={"inputs": [tensor(**changes)]})
    assert response.status_code in (400, 413, 422)
    assert_refused(response, response.status_code, says=says)


@pytest.mark.parametrize(
    ("request_fields", "status", "says"),
    [
        ({"outputs": [{"name": "code"}]}, 422, "no output is called 'code'"),
        ({"outputs": [{"name": "score"}, {"name": "score"}]}, 422, "each output"),
        ({"outputs": []}, 422, "#/outputs"),
        ({"outputs": [{"name": "denoised"}]}, 409, "has no output 'denoised'"),
        ({"outputs": [{"name": "score", "parameters": {"binary_data": 1}}]}, 422, "binary_data is true or false"),
        ({"parameters": {"operation": "sample"}}, 422, "/v1 has the others"),
        ({"parameters": {"operation": "denoise"}}, 409, "has no output 'denoised'"),
        ({"parameters": {"operation": "anomaly_score", "alpha": 2}}, 422, "alpha lies between"),
        ({"parameters": {"alpha": "0.1"}}, 422, "alpha is a number"),
        ({"parameters": {"alpha": 0.1, "threshold": 1}}, 422, "not both"),
        ({"parameters": {"x": [1]}}, 422, "#/parameters/x"),
        ({"further": 1}, 422, "#/further"),
        ({"model_name": "other"}, 422, "the path leads to tiny; leave model_name out"),
        ({"model_version": "1"}, 422, "the path leads to 2; leave model_version out"),
    ],
)
async def test_a_wrong_wish_is_refused_with_what_is_possible(
    served: Served, request_fields: dict[str, Any], status: int, says: str
) -> None:
    assert_refused(await infer(served, json={"inputs": [tensor()], **request_fields}), status, says=says)


async def test_an_uncalibrated_bundle_gives_raw_scores_and_says_that_it_has_no_p_values(served: Served) -> None:
    assert list(await outputs(served, "raw", parameters={"operation": "anomaly_score"})) == ["score"]
    response = await infer(served, "raw", json={"inputs": [tensor()], "outputs": [{"name": "p_value"}]})
    assert_refused(response, 409, says="no output 'p_value'")


@pytest.mark.parametrize("length", ["", "x", "-1", "1e3", "9" * 30, "100000", "3"])
async def test_a_wrong_header_length_is_refused(served: Served, length: str) -> None:
    sent = binary(ROWS)
    sent["headers"][HEADER] = length
    assert_refused(await infer(served, **sent), 400, says="")


async def test_raw_tensors_without_their_header_are_refused(served: Served) -> None:
    assert_refused(await infer(served, content=binary(ROWS)["content"]), 400, says="JSON")


@pytest.mark.parametrize("size", [31, 33, 0, -4, True, "32", 2**63])
async def test_a_lying_size_is_refused(served: Served, size: Any) -> None:
    rows = np.asarray(ROWS, "<f4").tobytes()
    head = json.dumps({"inputs": [tensor(data=None, parameters={"binary_data_size": size})]}).encode()
    response = await infer(served, content=head + rows, headers={HEADER: str(len(head))})
    assert response.status_code in (400, 422)
    assert_refused(response, response.status_code, says="32 bytes" if type(size) is not float else "")


@pytest.mark.parametrize("tail", [-1, 1])
async def test_missing_and_left_over_bytes_are_refused(served: Served, tail: int) -> None:
    sent = binary(ROWS)
    sent["content"] = sent["content"][:tail] if tail < 0 else sent["content"] + b"x"
    assert_refused(await infer(served, **sent), 400, says="bytes follow the JSON")


async def test_values_that_are_not_finite_are_refused_by_their_place(served: Served) -> None:
    response = await infer(served, **binary([[0, 1, 2, 3], [0, np.inf, 2, 3]]))
    assert_refused(response, 422, says="value 1 of row 1 is not a finite float32")
    response = await infer(served, **binary([[0, 1, 2, 1e300]], "<f8", datatype="FP64"))
    assert_refused(response, 422, says="value 3 of row 0")


async def test_rows_in_strange_units_are_answered_with_a_warning(served: Served) -> None:
    response = await infer(served, **binary([[0, 128, 200, 255]]))
    assert "0 to 255" in response.json()["parameters"]["warning"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", gzip.compress(b"{}")])
async def test_what_is_no_request_is_refused(served: Served, content: bytes) -> None:
    response = await infer(served, content=content)
    assert response.status_code in (400, 422)
    assert_refused(response, response.status_code, says="")


async def test_unknown_models_versions_paths_and_methods_are_refused_in_the_protocols_form(served: Served) -> None:
    body = {"inputs": [tensor()]}
    assert_refused(await infer(served, "nobody", json=body), 404, says="no model is called 'nobody'")
    response = await served.client.post("/v2/models/tiny/versions/9/infer", json=body)
    assert_refused(response, 404, says="has no version '9'")
    assert_refused(await served.get("/v2/models/tiny/nothing"), 404, says="nothing at this path")
    assert_refused(await served.get("/v2/models/tiny/infer"), 405, says="POST")


async def test_metadata_says_what_a_bundle_takes_and_gives(served: Served) -> None:
    found = (await served.get("/v2/models/tiny")).json()
    assert found["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}]
    assert found["versions"] == ["1", "2"]
    for output in found["outputs"]:
        answered = (await outputs(served, outputs=[{"name": output["name"]}]))[output["name"]]
        assert answered["datatype"] == output["datatype"]
        assert answered["shape"] == [2, *output["shape"][1:]]
    assert "denoised" in [output["name"] for output in (await served.get("/v2/models/denoiser")).json()["outputs"]]


async def test_health_and_server_metadata(served: Served) -> None:
    for path in ("/v2", "/v2/"):
        assert (await served.get(path)).json()["extensions"] == ["binary_tensor_data"]
    assert (await served.get("/v2/health/live")).json() == {"live": True}
    assert (await served.get("/v2/health/ready")).json() == {"live": True, "ready": True}
    assert (await served.get("/v2/models/tiny/ready")).json() == {"name": "tiny", "ready": True}


async def test_the_index_lists_every_version(served: Served) -> None:
    listed = (await served.client.post("/v2/repository/index")).json()
    assert [(entry["name"], entry["version"]) for entry in listed if entry["name"] == "tiny"] == [
        ("tiny", "1"),
        ("tiny", "2"),
    ]
    assert {entry["state"] for entry in listed} == {"READY"}
    assert (await served.client.post("/v2/repository/index", json={"ready": True})).json() == listed
    assert_refused(await served.client.post("/v2/repository/index", json={"ready": 1}), 422, says="#/ready")
