"""Triton: the server in the wheel of nvidia-pytriton, whose only backend is Python; two instances of the model.
Arguments: largest batch (0: requests one by one).

Its instances import this file, too, for the model.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.network import reconstruct

CONFIGURATION = """backend: "python"
max_batch_size: 4096
input [{ name: "input" data_type: TYPE_FP32 dims: [784] }]
output [{ name: "reconstruction" data_type: TYPE_FP32 dims: [784] }]
instance_group [{ count: 2 kind: KIND_CPU }]
"""
PROGRAM = """import sys
sys.path.insert(0, {root!r})
from benchmarks.peers.triton import TritonPythonModel
"""
BATCHES = "dynamic_batching {}\n"


class TritonPythonModel:
    """Answers all requests that Triton hands over at once with one forward."""

    def initialize(self, args: dict[str, str]) -> None:  # noqa: ARG002
        """The instance has the network."""
        self.forward = reconstruct(os.environ["MODEL"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """An answer to each."""
        import triton_python_backend_utils as backend

        rows = [backend.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        output = self.forward(torch.cat([torch.from_numpy(part) for part in rows]))
        return [
            backend.InferenceResponse([backend.Tensor("reconstruction", part.numpy())])
            for part in output.split([len(part) for part in rows])
        ]


if __name__ == "__main__":
    import pytriton

    model, port, batch = sys.argv[1:]
    installed = Path(pytriton.__file__).parent / "tritonserver"
    stub = installed / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = Path.cwd()
    network = folder / "models" / "network"
    (network / "1").mkdir(parents=True)
    (network / "1" / "model.py").write_text(PROGRAM.format(root=str(Path(__file__).parents[2])))
    shutil.copytree(installed / "backends", folder / "backends")
    shutil.copy(stub / "triton_python_backend_stub", folder / "backends" / "python")
    (network / "config.pbtxt").write_text(CONFIGURATION + (BATCHES if batch != "0" else ""))
    libraries = [str(installed.parents[1] / "nvidia_pytriton.libs"), str(Path(sys.base_prefix) / "lib")]
    libraries += [str(installed / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    os.environ |= {"MODEL": model, "LD_LIBRARY_PATH": ":".join(libraries)}
    command = [str(installed / "bin" / "tritonserver"), "--model-repository", str(folder / "models")]
    command += ["--backend-directory", str(folder / "backends"), "--http-address", "127.0.0.1"]
    command += ["--http-port", port, "--allow-grpc", "false", "--allow-metrics", "false"]
    os.execv(command[0], command)
