"""KServe's REST client against a running service: `python kserve_client.py ADDRESS`, in an environment that has kserve.

Prints one JSON object: what the client was told, and the outputs by how they travelled.
"""

import asyncio
import json
import sys

import numpy as np
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

OUTPUTS = ("reconstruction", "score", "is_anomaly")


async def main(address: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    rows = np.random.default_rng(0).random((3, 784), dtype=np.float32)
    found: dict[str, object] = {
        "live": await client.is_server_live(address),
        "ready": await client.is_server_ready(address),
        "model_ready": await client.is_model_ready(address, "fashion-vae"),
        "rows": rows.tolist(),
    }
    for binary in (False, True):
        tensor = InferInput("input", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows, binary_data=binary)
        wanted = [RequestedOutput(name, {"binary_data": binary}) for name in OUTPUTS]
        request = InferRequest("fashion-vae", [tensor], request_outputs=wanted)
        answer = await client.infer(address, request, model_name="fashion-vae")
        found["binary" if binary else "json"] = {output.name: output.as_numpy().tolist() for output in answer.outputs}
    print(json.dumps(found))  # noqa: T201


asyncio.run(main(sys.argv[1]))
