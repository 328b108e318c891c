"""The tiny bundle's arithmetic as ONNX graphs, made by hand: what they share lies in weights.bin."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from bundle.manifest import WEIGHTS_FILE, onnx_file
from bundle.operations import Family, Method
from bundle.read import Bundle, read_bundle
from tests.bundle_factory import LATENT_SIZE, SIZE, make_files, publish

__all__ = ["WEIGHTS", "external", "graph_of", "onnx_bundle", "onnx_files", "serialised"]

# The first half of a row is its code, which decoding says twice; after 64 bytes of nothing.
HALF = np.eye(SIZE, LATENT_SIZE, dtype=np.float32)
TWICE = np.hstack([np.eye(LATENT_SIZE, dtype=np.float32)] * 2)
WEIGHTS = bytes(64) + HALF.tobytes() + TWICE.tobytes()
ENCODE = make_node("MatMul", ["rows", "half"], ["encode"])
RECONSTRUCT = make_node("MatMul", ["encode", "twice"], ["reconstruct"])
ERROR = make_node("Sub", ["reconstruct", "rows"], ["error"])
SQUARE = make_node("Mul", ["error", "error"], ["anomaly_map"])
NODES = {
    Method.ENCODE: [ENCODE],
    Method.ENCODE_DISTRIBUTION: [
        make_node("MatMul", ["rows", "half"], ["mean"]),
        make_node("Sub", ["mean", "mean"], ["log_variance"]),
    ],
    Method.DECODE: [make_node("MatMul", ["rows", "twice"], ["decode"])],
    Method.RECONSTRUCT: [ENCODE, RECONSTRUCT],
    Method.ANOMALY_MAP: [ENCODE, RECONSTRUCT, ERROR, SQUARE],
    Method.ANOMALY_SCORE: [
        ENCODE,
        RECONSTRUCT,
        ERROR,
        SQUARE,
        make_node("ReduceMean", ["anomaly_map", "axis"], ["anomaly_score"], keepdims=0),
    ],
}


def external(name: str, *, offset: int, shape: tuple[int, ...], location: str = WEIGHTS_FILE) -> TensorProto:
    """A float32 tensor whose values lie in the file `location`."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    length = 4 * int(np.prod(shape))
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def graph_of(method: Method, *, nodes: Sequence[NodeProto], location: str = WEIGHTS_FILE) -> GraphProto:
    """A graph of these nodes that takes rows and gives what `method` gives."""
    width = LATENT_SIZE if method.takes_latents else SIZE
    names = ["mean", "log_variance"] if method is Method.ENCODE_DISTRIBUTION else [method.value]
    shapes = method.output_shapes(0, size=SIZE, latent_size=LATENT_SIZE)
    return make_graph(
        nodes,
        method.value,
        [make_tensor_value_info("rows", TensorProto.FLOAT, ["n", width])],
        [
            make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape[1:]])
            for name, shape in zip(names, shapes, strict=True)
        ],
        [
            external("half", offset=64, shape=HALF.shape, location=location),
            external("twice", offset=64 + HALF.nbytes, shape=TWICE.shape, location=location),
            TensorProto(name="axis", data_type=TensorProto.INT64, dims=[1], int64_data=[1]),
        ],
    )


def serialised(graph: GraphProto) -> bytes:
    """The bytes of a file that holds this graph alone."""
    model: ModelProto = make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def onnx_files() -> dict[str, bytes]:
    """The graphs of a variational bundle, and their weights."""
    graphs = {onnx_file(method): serialised(graph_of(method, nodes=nodes)) for method, nodes in NODES.items()}
    return graphs | {WEIGHTS_FILE: WEIGHTS}


def onnx_bundle(root: Path, **changed: bytes) -> Bundle:
    """The tiny variational bundle with ONNX beside its program; `changed` are methods' graphs."""
    files = onnx_files() | {f"{method}.onnx": graph for method, graph in changed.items()}
    folder = publish(
        root,
        family=Family.VARIATIONAL,
        files=make_files(Family.VARIATIONAL) | files,
        artefacts={"torchscript": ("model.pt",), "onnx": tuple(sorted(files))},
    )
    return read_bundle(folder)
