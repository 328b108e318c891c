"""BentoML: two workers, arrays typed by its own annotations. The environment says MODEL and whether BATCHES form."""

import os
import sys
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
import torch
from bentoml.validators import DType, Shape

from benchmarks.peers.network import reconstruct

Rows = Annotated[np.ndarray, DType("float32"), Shape((-1, 784))]


@bentoml.service(workers=2, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Reconstruction:
    """Lists of rows."""

    def __init__(self) -> None:
        self.forward = reconstruct(os.environ["MODEL"])

    @bentoml.api(batchable=os.environ.get("BATCHES") == "1", max_batch_size=64, max_latency_ms=1000)
    def reconstruct(self, inputs: Rows) -> Rows:
        """The reconstruction."""
        output: Rows = self.forward(torch.from_numpy(np.array(inputs))).numpy()
        return output


if __name__ == "__main__":
    os.environ |= {"MODEL": sys.argv[1], "BATCHES": sys.argv[3]}
    serve = ["serve", "benchmarks.peers.bento:Reconstruction", "--host", "127.0.0.1", "--port", sys.argv[2]]
    os.execv(str(Path(sys.executable).with_name("bentoml")), ["bentoml", *serve])
