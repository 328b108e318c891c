"""The network that every server serves, for those that run it in Python: opened as the service itself opens it."""

from collections.abc import Callable
from typing import Any

import torch

from bundle.torchscript import silence_deprecation

__all__ = ["reconstruct"]


def reconstruct(path: str) -> Callable[[Any], Any]:
    """The frozen program's `reconstruct`, from tensors (n, d) to tensors (n, d) on one thread, warmed up."""
    silence_deprecation()
    torch.set_num_threads(1)
    program = torch.jit.freeze(torch.jit.load(path).eval(), preserved_attrs=["reconstruct"])  # type: ignore[no-untyped-call]  # torch's own

    def forward(rows: Any) -> Any:
        with torch.inference_mode():
            return program.reconstruct(rows)

    for count in (1, 1, 1, 16, 16, 64, 64):
        forward(torch.rand(count, 784))
    return forward
