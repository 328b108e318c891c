"""MLServer with a runtime of one's own. Arguments: inference processes (0: in the server's own), largest batch."""

import json
import os
import sys
from pathlib import Path

import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.network import reconstruct


class Reconstruction(MLModel):
    """Tensors in JSON."""

    async def load(self) -> bool:
        """The process has the network."""
        self.forward = reconstruct(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The reconstruction of the one input."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        output = self.forward(torch.from_numpy(rows)).numpy()
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name="reconstruction", payload=output)]
        )


if __name__ == "__main__":
    model, port, processes, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    folder = Path.cwd()
    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    settings = ports | {"host": "127.0.0.1", "parallel_workers": processes, "debug": False, "metrics_endpoint": None}
    (folder / "settings.json").write_text(json.dumps(settings))
    network = {
        "name": "network",
        "implementation": "benchmarks.peers.mlserver.Reconstruction",
        "parameters": {"uri": model},
        "max_batch_size": batch,
        "max_batch_time": 0.001 if batch else 0,
    }
    (folder / "model-settings.json").write_text(json.dumps(network))
    os.execvp("mlserver", ["mlserver", "start", str(folder)])
