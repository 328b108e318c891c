"""Raw tensors of half precision, raw answers by default, and outputs that are listed, all at once: each output is as
the request's default says unless it says something itself."""

import json
from typing import Any

import numpy as np
import pytest

from tests.service.serving import ROWS, Served

HEADER = "Inference-Header-Content-Length"
DEFAULTS: list[tuple[dict[str, bool], bool]] = [
    ({}, False),
    ({"binary_data_output": False}, False),
    ({"binary_data_output": True}, True),
]


@pytest.mark.parametrize(("parameters", "default"), DEFAULTS)
@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", "<f2"), ("FP32", "<f4")])
async def test_each_listed_output_is_raw_by_its_own_word_or_else_by_the_requests(
    served: Served, parameters: dict[str, bool], default: bool, datatype: str, dtype: str
) -> None:
    raw = np.asarray(ROWS, dtype).tobytes()
    listed: list[dict[str, Any]] = [
        {"name": "latent"},
        {"name": "score", "parameters": {"binary_data": not default}},
        {"name": "reconstruction", "parameters": {}},
    ]
    tensor = {"name": "input", "shape": [2, 4], "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "outputs": listed, "parameters": parameters}).encode()
    response = await served.client.post("/v2/models/tiny/infer", content=head + raw, headers={HEADER: str(len(head))})
    assert response.status_code == 200, response.text
    length = int(response.headers[HEADER])
    outputs, rest = json.loads(response.content[:length])["outputs"], response.content[length:]
    assert [output["name"] for output in outputs] == ["latent", "score", "reconstruction"]
    assert ["data" not in output for output in outputs] == [default, not default, default]
    expected = [ROWS[0][:2] + ROWS[1][:2], [0.203125, 0.203125], [*ROWS[0][:2] * 2, *ROWS[1][:2] * 2]]
    for output, values in zip(outputs, expected, strict=True):
        assert output["datatype"] == "FP32"
        if "data" in output:
            found = np.ravel(output["data"])
        else:
            size = output["parameters"]["binary_data_size"]
            found, rest = np.frombuffer(rest[:size], "<f4"), rest[size:]
        assert found.tolist() == values
    assert rest == b""
