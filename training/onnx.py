"""Network -> ONNX, for services without torch: a graph for each method, the weights of all in one file."""

import hashlib
import logging
from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir
import torch
from torch import Tensor, nn

from bundle.calibration import Calibration, Floats
from bundle.errors import GoldenMismatch
from bundle.golden import ATOL, RTOL, Golden
from bundle.manifest import WEIGHTS_FILE, onnx_file
from bundle.onnx import refuse_telemetry
from bundle.operations import Method
from training.errors import ParityError
from training.export import MARGIN, Exported, Program, check_parity

refuse_telemetry()
import onnxruntime  # noqa: E402  # after that

__all__ = ["OnnxArtefact", "check_p_values", "export_onnx", "onnx_files"]

ALIGNMENT = 64  # bytes, as processors like to load them
CHECKED_ROWS = 200
RANKS = 2
logger = logging.getLogger("diabolo.training")


class OnnxArtefact:
    """The exported graphs as anyone else would open them: from their bytes."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._sessions: dict[Method, onnxruntime.InferenceSession] = {}
        weights = files[WEIGHTS_FILE]
        for method in Method:
            if onnx_file(method) in files:
                options = onnxruntime.SessionOptions()
                options.add_external_initializers_from_files_in_memory([WEIGHTS_FILE], [weights], [len(weights)])
                self._sessions[method] = onnxruntime.InferenceSession(
                    files[onnx_file(method)], options, providers=["CPUExecutionProvider"]
                )

    def run(self, method: Method, rows: Floats) -> tuple[Floats, ...]:
        """What `method` returns for rows (n, d), or codes (n, k): one array, two for `encode_distribution`."""
        session = self._sessions[method]
        return tuple(session.run(None, {session.get_inputs()[0].name: rows}))


class _EveryMethod(nn.Module):
    """All methods at once, of rows x (n, d) and codes z (m, k)."""

    def __init__(self, program: Program, methods: list[Method]) -> None:
        super().__init__()
        self.program = program
        self.methods = methods

    def forward(self, x: Tensor, z: Tensor) -> list[Tensor | tuple[Tensor, Tensor]]:
        return [getattr(self.program, method.value)(z if method.takes_latents else x) for method in self.methods]


def onnx_files(
    program: Program,
    methods: Collection[Method],
    *,
    rows: Tensor,
    artefact: Exported,
    calibration: Calibration,
    golden: Golden,
) -> dict[str, bytes]:
    """The files of the ONNX artefact, proven to answer as `program` and the TorchScript `artefact` do; or none, and a
    line in the log that says why.

    That they answer otherwise depends on the data: where a score is the difference of all but equal numbers, or many
    rows have one score, the last bits decide, and no two runtimes agree in those. A network that ONNX cannot express
    is a mistake of ours, and raises what the exporter raises. Of `rows` (n, d), calibration rows in input units, the
    first 200 are looked at that are as `probe_rows` wants them.
    """
    files = export_onnx(program, methods)
    exported = OnnxArtefact(files)
    clear = rows[program.margin(rows) > MARGIN][:CHECKED_ROWS]
    try:
        golden.replay(exported.run)
        if len(clear) > 0:
            check_parity(exported, program, methods, rows=clear, rtol=RTOL, atol=ATOL)
            check_p_values(exported, artefact, calibration, rows=clear.numpy())
    except (ParityError, GoldenMismatch) as error:
        logger.warning("published without ONNX, whose runtime answers otherwise here: %s", error)
        return {}
    return files


def check_p_values(one: Exported, other: Exported, calibration: Calibration, *, rows: Floats) -> None:
    """Returns when both give `rows` (n, d) conformal p-values within two ranks, 2 / (n + 1), of each other; raises
    ParityError otherwise."""
    ranks = [
        np.rint(calibration.p_values(exported.run(Method.ANOMALY_SCORE, rows)[0]) * (calibration.size + 1))
        for exported in (one, other)
    ]
    largest = int(np.abs(ranks[0] - ranks[1]).max())
    if largest > RANKS:
        raise ParityError(
            f"p-values are off by {largest}/{calibration.size + 1}, beyond {RANKS}/{calibration.size + 1}"
        )


def export_onnx(program: Program, methods: Collection[Method]) -> dict[str, bytes]:
    """A graph `<method>.onnx` for each of `methods`, and `weights.bin`, in which every tensor of theirs lies once.

    Equal programs give equal bytes, which name no path of this machine. All is exported in one go, because that is
    what takes time, and then cut into one graph for each method.
    """
    methods = sorted(methods)
    x = torch.zeros(2, len(program.network.offset))  # of one row the exporter would conclude that there is always one
    latents = program.encode(x)
    size = {0: torch.export.Dim.DYNAMIC}
    names = {method: _output_names(method) for method in methods}
    with torch.no_grad():
        exported = torch.export.export(
            _EveryMethod(program, methods).eval(), (x, latents), dynamic_shapes=(size, size), strict=False
        )
    whole = torch.onnx.export(
        exported,
        dynamo=True,
        verbose=False,
        input_names=["x", "z"],
        output_names=[name for method in methods for name in names[method]],
    )
    assert whole is not None
    weights = _Weights()
    graphs = {}
    for method in methods:
        graph = onnx_ir.convenience.extract(whole.model.graph, ["z" if method.takes_latents else "x"], names[method])
        graph.name = method.value
        weights.take(graph)
        model = onnx_ir.Model(graph, ir_version=whole.model.ir_version, producer_name="diabolo")
        # Notes of the exporter: the lines of source, with their paths, that each operation comes from.
        onnx_ir.passes.common.ClearMetadataAndDocStringPass()(model)
        graphs[onnx_file(method)] = onnx_ir.to_proto(model).SerializeToString(deterministic=True)
    return graphs | {WEIGHTS_FILE: weights.content}


def _output_names(method: Method) -> list[str]:
    """What no operation is called: `encode.0`, as in golden.npz."""
    return [f"{method}.{index}" for index in range(len(method.output_shapes(1, size=1, latent_size=1)))]


class _Weights:
    """The content of weights.bin, to which graphs hand their tensors."""

    def __init__(self) -> None:
        self.content = b""
        self._offsets: dict[str, int] = {}

    def take(self, graph: onnx_ir.Graph) -> None:
        """The float32 arrays of `graph` are here, and `graph` says where; single numbers and sizes stay in it, because
        the shape of what comes out depends on them."""
        for name in sorted(graph.initializers):  # which come as a set gives them
            value = graph.initializers[name] = graph.initializers.pop(name)
            tensor = value.const_value
            if tensor is not None and tensor.dtype == onnx_ir.DataType.FLOAT and len(tensor.shape) > 0:
                content = tensor.tobytes()
                value.const_value = onnx_ir.ExternalTensor(
                    WEIGHTS_FILE,
                    self._offset(content),
                    len(content),
                    tensor.dtype,
                    shape=onnx_ir.Shape(tensor.numpy().shape),
                    name=name,
                )

    def _offset(self, content: bytes) -> int:
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._offsets:
            self.content += bytes(-len(self.content) % ALIGNMENT)
            self._offsets[digest] = len(self.content)
            self.content += content
        return self._offsets[digest]
