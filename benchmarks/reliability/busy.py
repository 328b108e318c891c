"""A bundle whose forward pass computes for twenty milliseconds a row, however many rows share it."""

import tempfile
import time
from pathlib import Path

import numpy as np
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from benchmarks.reliability.bundles import shipped
from bundle.golden import Expected, Golden
from bundle.manifest import GOLDEN_FILE, TORCHSCRIPT_FILE, WEIGHTS_FILE, Score, onnx_file
from bundle.operations import Method, Operation
from bundle.read import Bundle, read_bundle
from bundle.write import write_bundle
from service.engine.runtimes.onnx import OnnxRuntime

__all__ = ["NAME", "publish_busy"]

NAME, BASE = "busy", "fashion-linear"
SIDE, WIDTH, PROBED = 28, 256, 4
TRIED_STEPS, TURNS = 50, 20


def publish_busy(root: Path, *, seconds: float = 0.02) -> Bundle:
    """A bundle of pictures of 28 x 28 values with a score alone, whose ONNX takes so long a row on this machine now.

    The score is the mean magnitude of a picture after many rotations in 256 dimensions: matrix products that take as
    long for each of many rows as for one. The TorchScript that a bundle has to have is another's and is never opened.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = publish_steps(Path(folder), TRIED_STEPS)
    runtime, row = OnnxRuntime(trial), trial.golden.inputs[:1]
    turns = []
    for _ in range(TURNS):
        start = time.perf_counter()
        runtime.run(Method.ANOMALY_SCORE, row)
        turns.append(time.perf_counter() - start)
    return publish_steps(root, round(TRIED_STEPS * seconds / min(turns)))


def publish_steps(root: Path, steps: int) -> Bundle:
    """The bundle with so many rotations."""
    base = shipped(BASE)
    widening = np.eye(SIDE, WIDTH, dtype=np.float32)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))[0].astype(np.float32)
    rows = base.golden.inputs[:PROBED]
    turned = rows.reshape(-1, SIDE, SIDE) @ widening
    for _ in range(steps):
        turned = turned @ rotation
    scores = np.abs(turned).mean(axis=(1, 2), dtype=np.float32)
    files = {
        TORCHSCRIPT_FILE: base.files[TORCHSCRIPT_FILE],
        onnx_file(Method.ANOMALY_SCORE): _graph(steps),
        WEIGHTS_FILE: widening.tobytes() + rotation.tobytes(),
        GOLDEN_FILE: Golden(rows, base.golden.latents[:PROBED], {Method.ANOMALY_SCORE: Expected((scores,))}).to_bytes(),
    }
    changes = {
        "name": NAME,
        "operations": (Operation.ANOMALY_SCORE,),
        "score": Score(kind="reconstruction_error", additive=False),
        "calibration": None,
        "artefacts": {"torchscript": (TORCHSCRIPT_FILE,), "onnx": (onnx_file(Method.ANOMALY_SCORE), WEIGHTS_FILE)},
    }
    folder = write_bundle(
        root, files, manifest=lambda entries: base.manifest.model_copy(update={**changes, "files": entries})
    )
    return read_bundle(folder)


def _graph(steps: int) -> bytes:
    nodes = [make_node("Reshape", ["rows", "shape"], ["picture"]), make_node("MatMul", ["picture", "widening"], ["0"])]
    nodes += [make_node("MatMul", [str(step), "rotation"], [str(step + 1)]) for step in range(steps)]
    nodes += [
        make_node("Abs", [str(steps)], ["magnitude"]),
        make_node("ReduceMean", ["magnitude", "axes"], ["anomaly_score"], keepdims=0),
    ]
    graph = make_graph(
        nodes,
        NAME,
        [make_tensor_value_info("rows", TensorProto.FLOAT, ["n", SIDE * SIDE])],
        [make_tensor_value_info("anomaly_score", TensorProto.FLOAT, ["n"])],
        [
            _external("widening", (SIDE, WIDTH), offset=0),
            _external("rotation", (WIDTH, WIDTH), offset=4 * SIDE * WIDTH),
            TensorProto(name="shape", data_type=TensorProto.INT64, dims=[3], int64_data=[-1, SIDE, SIDE]),
            TensorProto(name="axes", data_type=TensorProto.INT64, dims=[2], int64_data=[1, 2]),
        ],
    )
    content: bytes = make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=10).SerializeToString()
    return content


def _external(name: str, shape: tuple[int, ...], *, offset: int) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    where = {"location": WEIGHTS_FILE, "offset": offset, "length": 4 * int(np.prod(shape))}
    for key, value in where.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
