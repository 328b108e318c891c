"""The rows that a bundle is asked about, and what its own program makes of them without the service."""

from functools import cache

import numpy as np

from bundle.calibration import Floats
from bundle.operations import Method
from bundle.read import Bundle
from service.engine.runtimes.onnx import OnnxRuntime

__all__ = ["direct", "probe"]


def probe(bundle: Bundle, method: Method, *, count: int, first: int = 0) -> Floats:
    """`count` rows of the bundle's probe for this method, from row `first` on and again from its start."""
    rows = bundle.golden.latents if method.takes_latents else bundle.golden.inputs
    return rows[np.arange(first, first + count) % len(rows)]


def direct(bundle: Bundle, method: Method, rows: Floats) -> Floats:
    """The forward pass alone, of all rows at once: its first array."""
    return _opened(bundle).run(method, rows)[0]


@cache
def _opened(bundle: Bundle) -> OnnxRuntime:
    return OnnxRuntime(bundle)
