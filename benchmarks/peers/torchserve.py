"""TorchServe: two worker processes behind its Java front end. Arguments: largest batch, its delay in ms.

It imports this file, too, from the archive that it is packed in, for the handler.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from ts.torch_handler.base_handler import BaseHandler

from benchmarks.peers.network import reconstruct

PROPERTIES = """inference_address=http://127.0.0.1:{port}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
grpc_inference_port={grpc}
grpc_management_port={grpc_management}
default_workers_per_model=2
job_queue_size=1000
disable_system_metrics=true
disable_token_authorization=true
enable_envvars_config=false
"""
MODEL = """minWorkers: 2
maxWorkers: 2
batchSize: {batch}
maxBatchDelay: {delay}
"""
LOGGING = """<Configuration><Appenders><Console name="console"/></Appenders>
<Loggers><Root level="error"><AppenderRef ref="console"/></Root></Loggers></Configuration>
"""


class Reconstruction(BaseHandler):
    """Lists of rows, or a body of float32 values."""

    def initialize(self, context: Any) -> None:
        """The worker has the network."""
        self.forward = reconstruct(str(Path(context.system_properties["model_dir"]) / "model.pt"))
        self.initialized = True

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:  # noqa: ARG002
        """An answer to each request of the batch, as it was asked."""
        bodies = [request["body"] for request in data]
        rows = [
            np.asarray(body["inputs"], dtype=np.float32)
            if isinstance(body, dict)
            else np.frombuffer(body, "<f4").reshape(-1, 784)
            for body in bodies
        ]
        outputs = self.forward(torch.from_numpy(np.concatenate(rows))).numpy()
        parts = np.split(outputs, np.cumsum([len(part) for part in rows])[:-1])
        return [
            orjson.dumps({"outputs": part}, option=orjson.OPT_SERIALIZE_NUMPY)
            if isinstance(body, dict)
            else part.tobytes()
            for body, part in zip(bodies, parts, strict=True)
        ]


if __name__ == "__main__":
    model, port, batch, delay = sys.argv[1:]
    folder = Path.cwd()
    places = ("management", "metrics", "grpc", "grpc_management")
    properties = {name: int(port) + offset for offset, name in enumerate(places, start=1)}
    (folder / "config.properties").write_text(PROPERTIES.format(port=port, **properties))
    (folder / "model-config.yaml").write_text(MODEL.format(batch=batch, delay=delay))
    (folder / "log4j2.xml").write_text(LOGGING)
    archive = ["torch-model-archiver", "--model-name", "network", "--version", "1", "--serialized-file", model]
    archive += ["--handler", __file__, "--export-path", str(folder), "--config-file", str(folder / "model-config.yaml")]
    subprocess.run(archive, check=True)
    server = ["torchserve", "--start", "--foreground", "--model-store", str(folder), "--models", "network=network.mar"]
    server += ["--ts-config", str(folder / "config.properties"), "--log-config", str(folder / "log4j2.xml")]
    os.execvp(server[0], server)
