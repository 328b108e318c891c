"""What the service is asked in the cells: the rows, and how they are sent."""

import numpy as np

from benchmarks.peers.peer import BINARY, JSON
from benchmarks.peers.wires import BinaryTensors, Lists, Rows, Wire
from benchmarks.serving import MODEL, ROOT
from bundle.read import read_bundle, scan

__all__ = ["WIRES", "example_rows"]

WIRES: dict[str, Wire] = {
    JSON: Lists(f"/v1/models/{MODEL}/reconstruct"),
    BINARY: BinaryTensors(f"/v2/models/{MODEL}/infer"),
}


def example_rows() -> Rows:
    """64 pictures that differ, float32 of shape (64, 784): the bundle's 16 probes, and each of them mirrored."""
    location = [found for found in scan(ROOT / "models") if found.name == MODEL][-1]
    pictures = read_bundle(location.path).golden.inputs.reshape(-1, 28, 28)
    turned = (pictures, pictures[:, ::-1], pictures[:, :, ::-1], pictures[:, ::-1, ::-1])
    return np.concatenate(turned).reshape(-1, 784).astype(np.float32)
