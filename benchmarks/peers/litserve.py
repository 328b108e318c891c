"""LitServe: two copies of the model behind two API servers, which queue over ZeroMQ. Arguments: largest batch."""

import sys
from typing import Any

import litserve
import numpy as np
import orjson
import torch
from starlette.responses import Response

from benchmarks.peers.network import reconstruct


class Reconstruction(litserve.LitAPI):
    """Lists of rows, or an uploaded file of float32 values."""

    def __init__(self, path: str, largest_batch: int) -> None:
        super().__init__(max_batch_size=largest_batch, batch_timeout=0.001 if largest_batch > 1 else 0.0)
        self.path = path

    def setup(self, device: object) -> None:  # noqa: ARG002
        self.forward = reconstruct(self.path)

    def decode_request(self, request: litserve.Request, context: dict[str, Any]) -> Any:
        context["raw"] = "rows" in request
        if context["raw"]:
            return torch.frombuffer(bytearray(request["rows"].file.read()), dtype=torch.float32).reshape(-1, 784)
        return torch.from_numpy(np.asarray(request["inputs"], dtype=np.float32))

    def batch(self, inputs: list[Any]) -> Any:
        self.counts = [len(rows) for rows in inputs]
        return torch.cat(inputs)

    def predict(self, rows: Any) -> Any:
        return self.forward(rows)

    def unbatch(self, output: Any) -> Any:
        return output.split(self.counts)

    def encode_response(self, output: Any, context: dict[str, Any]) -> Response:
        if context["raw"]:
            return Response(output.numpy().tobytes(), media_type="application/octet-stream")
        return Response(orjson.dumps({"outputs": output.tolist()}), media_type="application/json")


if __name__ == "__main__":
    api = Reconstruction(sys.argv[1], int(sys.argv[3]))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False, access_log=False
    )
