"""ONNX: real graphs, opened from verified bytes alone, that reproduce their probe; nobody imports torch for them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto
from onnx.helper import make_function, make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from bundle.errors import BundleError, GoldenMismatch, ProgramForbidden, ProgramInvalid
from bundle.inspection.graph import check_graph
from bundle.operations import Method
from service.engine.loaded import prove
from service.engine.runtimes.onnx import OnnxRuntime
from tests.bundle_factory import LATENT_SIZE, SIZE, run
from tests.service.graphs import NODES, WEIGHTS, external, graph_of, onnx_bundle, serialised
from tests.service.programs import rows_of

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_method_answers_what_the_graphs_compute_as_float32(root: Path, count: int) -> None:
    bundle = onnx_bundle(root)
    runtime = OnnxRuntime(bundle)
    assert (runtime.device, runtime.platform) == ("cpu", "onnxruntime_onnx")
    for method in sorted(bundle.manifest.methods):
        rows = rows_of(*range(count))[:, : LATENT_SIZE if method.takes_latents else SIZE]
        outputs = runtime.run(method, rows)
        assert len(outputs) == len(run(method, rows))
        for found, wanted in zip(outputs, run(method, rows), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
            assert found.dtype == np.float32


@pytest.mark.parametrize("module", ["service.engine.runtimes.onnx", "training.onnx"])
def test_onnxruntime_tells_nobody_about_its_use(tmp_path: Path, module: str) -> None:
    """It would leave a database of telemetry in the user's cache folder."""
    # It is silent by itself where variables say that this is continuous integration.
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    for told, files in (("", 0), ("0", 1)):
        home = tmp_path / f"home{told}"
        settings = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")} | (
            {"ORT_DISABLE_TELEMETRY": told} if told else {}
        )
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True, cwd=ROOT, env=environment | settings)
        assert bool([path for path in home.rglob("*") if path.is_file() and "onnx" in str(path)]) == bool(files)


def test_a_bundle_is_proven_by_its_probe(root: Path) -> None:
    bundle = onnx_bundle(root)
    assert prove(lambda: bundle, OnnxRuntime).golden_error < 1e-6


def test_a_graph_that_computes_something_else_fails_its_probe(root: Path) -> None:
    nodes = [*NODES[Method.RECONSTRUCT][:-1], make_node("MatMul", ["encode", "twice"], ["twice_as_much"])]
    nodes.append(make_node("Add", ["twice_as_much", "twice_as_much"], ["reconstruct"]))
    bundle = onnx_bundle(root, reconstruct=serialised(graph_of(Method.RECONSTRUCT, nodes=nodes)))
    with pytest.raises(GoldenMismatch, match=r"^reconstruct is off its golden probe"):
        prove(lambda: bundle, OnnxRuntime)


def test_rows_are_neither_changed_nor_required_to_be_writeable_or_contiguous(root: Path) -> None:
    runtime = OnnxRuntime(onnx_bundle(root))
    rows = np.repeat(rows_of(1, 2), 2, axis=0)[::2]
    rows.flags.writeable = False
    assert not rows.flags.c_contiguous
    (codes,) = runtime.run(Method.ENCODE, rows)
    np.testing.assert_array_equal(codes, rows_of(1, 2)[:, :2])
    np.testing.assert_array_equal(rows, rows_of(1, 2))


def test_the_weights_may_go_once_the_graphs_are_open(root: Path) -> None:
    bundle = onnx_bundle(root)
    weights = bytearray(WEIGHTS)
    runtime = OnnxRuntime(type(bundle)(**vars(bundle) | {"files": {**bundle.files, "weights.bin": weights}}))
    weights[:] = bytes(len(weights))
    np.testing.assert_array_equal(runtime.run(Method.DECODE, rows_of(3)[:, :2])[0], [[3, 6, 3, 6]])


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x0a" + bytes(100)], ids=range(3))
def test_what_is_no_graph_is_refused(root: Path, content: bytes) -> None:
    with pytest.raises(ProgramInvalid, match=r"^decode\.onnx (cannot be opened by onnxruntime|is no ONNX)") as refusal:
        OnnxRuntime(onnx_bundle(root, decode=content))
    assert "\n" not in str(refusal.value)
    assert str(root) not in str(refusal.value)


def test_a_graph_takes_rows_and_nothing_else(root: Path) -> None:
    graph = graph_of(Method.DECODE, nodes=NODES[Method.DECODE])
    graph.input.append(make_tensor_value_info("seed", TensorProto.FLOAT, [1]))
    with pytest.raises(ProgramInvalid, match=r"^decode\.onnx takes 2 inputs"):
        OnnxRuntime(onnx_bundle(root, decode=serialised(graph)))


def plainly(tensor: TensorProto) -> bytes:
    graph = graph_of(Method.DECODE, nodes=NODES[Method.DECODE])
    del graph.initializer[1]
    graph.initializer.append(tensor)
    return serialised(graph)


def decoding(tensor: TensorProto) -> list[NodeProto]:
    return [make_node("Constant", [], ["mine"], value=tensor), make_node("MatMul", ["rows", "mine"], ["decode"])]


def as_a_constant(tensor: TensorProto) -> bytes:
    return serialised(graph_of(Method.DECODE, nodes=decoding(tensor)))


def in_a_branch(tensor: TensorProto) -> bytes:
    given = [make_tensor_value_info("decode", TensorProto.FLOAT, ["n", SIZE])]
    branch = make_graph([make_node("MatMul", ["rows", "twice"], ["decode"])], "branch", [], given, [tensor])
    nodes = [
        make_node("ReduceSum", ["rows"], ["sum"], keepdims=0),
        make_node("Cast", ["sum"], ["any"], to=TensorProto.BOOL),
        make_node("If", ["any"], ["decode"], then_branch=branch, else_branch=branch),
    ]
    graph = graph_of(Method.DECODE, nodes=nodes)
    del graph.initializer[1]
    return serialised(graph)


def in_a_function(tensor: TensorProto) -> bytes:
    opset = make_opsetid("", 20)
    function = make_function("own", "Decode", ["rows"], ["decode"], decoding(tensor), [opset])
    graph = graph_of(Method.DECODE, nodes=[make_node("Decode", ["rows"], ["decode"], domain="own")])
    model = make_model(graph, functions=[function], opset_imports=[opset, make_opsetid("own", 1)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize(
    "location", ["secret.bin", "./secret.bin", "folder/secret.bin", "../{name}/secret.bin", "{root}/secret.bin"]
)
@pytest.mark.parametrize("graph", [plainly, as_a_constant, in_a_branch, in_a_function])
def test_no_graph_reads_a_file(
    root: Path, monkeypatch: pytest.MonkeyPatch, graph: Callable[[TensorProto], bytes], location: str
) -> None:
    (root.parent / "here" / "folder").mkdir(parents=True)
    monkeypatch.chdir(root.parent / "here")
    for path in ("secret.bin", "folder/secret.bin"):
        Path(path).write_bytes(WEIGHTS)
    where = location.format(root=Path.cwd(), name="here")
    tensor = external("twice", offset=96, shape=(LATENT_SIZE, SIZE), location=where)
    with pytest.raises((ProgramInvalid, ProgramForbidden), match=r"^decode\.onnx (cannot be opened|has functions)"):
        OnnxRuntime(onnx_bundle(root, decode=graph(tensor)))


def gelu(*, domain: str, inside_a_branch: bool = False) -> bytes:
    """A graph with an operator of onnxruntime's own."""
    node = make_node("Gelu", ["rows"], ["mine"], domain=domain)
    last = make_node("MatMul", ["mine", "twice"], ["decode"])
    if not inside_a_branch:
        return serialised(graph_of(Method.DECODE, nodes=[node, last]))
    given = [make_tensor_value_info("decode", TensorProto.FLOAT, ["n", SIZE])]
    branch = make_graph([node, last], "branch", [], given)
    condition = make_node("Constant", [], ["yes"], value=TensorProto(data_type=TensorProto.BOOL, int32_data=[1]))
    chosen = make_node("If", ["yes"], ["decode"], then_branch=branch, else_branch=branch)
    return serialised(graph_of(Method.DECODE, nodes=[condition, chosen]))


@pytest.mark.parametrize("inside_a_branch", [False, True])
@pytest.mark.parametrize("domain", ["com.microsoft", "ai.onnx.ml", "my.own", " "])
def test_an_operator_that_is_not_of_the_standard_is_refused_by_name_unopened(
    root: Path, monkeypatch: pytest.MonkeyPatch, domain: str, inside_a_branch: bool
) -> None:
    bundle = onnx_bundle(root, decode=gelu(domain=domain, inside_a_branch=inside_a_branch))
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("onnxruntime was given it"))
    with pytest.raises(
        ProgramForbidden, match=rf"^decode\.onnx uses the operator '{domain}\.Gelu', which is not one of"
    ):
        OnnxRuntime(bundle)
    check_graph("decode.onnx", gelu(domain="ai.onnx", inside_a_branch=inside_a_branch))


def test_onnxruntime_itself_would_run_it() -> None:
    options = onnxruntime.SessionOptions()
    options.add_external_initializers_from_files_in_memory(["weights.bin"], [WEIGHTS], [len(WEIGHTS)])
    assert onnxruntime.InferenceSession(gelu(domain="com.microsoft"), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (b"\x08\x0aORTM" + bytes(20), ProgramInvalid, "is no ONNX"),
        (bytes(4) + b"ORTM" + bytes(20), ProgramForbidden, "onnxruntime's own format"),
        (b"\xa2\x01\x00", ProgramForbidden, "has steps of training"),
        (b"\xca\x01\x00", ProgramForbidden, "has functions of its own"),
        (b"\xfa\x01\x00", ProgramForbidden, "has the field 31"),
        (b"\xba\x80\x80\x80\x80\x01\x00", ProgramInvalid, "has a number that is none"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", ProgramInvalid, "longer than the message"),
        (b"\x3a" + b"\xff" * 20, ProgramInvalid, "has no end"),
        (b"\x3b", ProgramInvalid, "wire type 3"),
    ],
)
def test_what_is_no_plain_onnx_is_refused(content: bytes, error: type[BundleError], said: str) -> None:
    with pytest.raises(error, match=said):
        check_graph("decode.onnx", content)


def test_graphs_within_graphs_come_to_an_end() -> None:
    content = b""
    for _ in range(100):
        node = b"\x2a" + _sized(b"\x32" + _sized(content))
        content = b"\x0a" + _sized(node)
    with pytest.raises(ProgramForbidden, match="deeper"):
        check_graph("decode.onnx", b"\x3a" + _sized(content))


def _sized(content: bytes) -> bytes:
    return bytes([len(content) & 0x7F | 0x80, len(content) >> 7]) + content


@pytest.mark.parametrize("path", sorted(MODELS.glob("*/*/*.onnx")), ids=lambda path: "/".join(path.parts[-3::2]))
def test_shipped_graphs_pass(path: Path) -> None:
    check_graph(path.name, path.read_bytes())


@pytest.mark.parametrize("offset", [-4, 100, 2**62])
def test_weights_beyond_the_file_are_refused(root: Path, offset: int) -> None:
    graph = plainly(external("twice", offset=offset, shape=(LATENT_SIZE, SIZE)))
    with pytest.raises(ProgramInvalid, match=r"^decode\.onnx cannot be opened"):
        OnnxRuntime(onnx_bundle(root, decode=graph))


SERVING = """
import asyncio, sys
import httpx
from service.app import create_app
from service.settings import Settings

async def serve():
    app = create_app(Settings(models_dir=sys.argv[1], runtime="onnx", poll_seconds=3600, strict=True))
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://d") as client:
        for operation in ("reconstruct", "encode", "anomaly-score"):
            response = await client.post(f"/v1/models/tiny/{operation}", json={"inputs": [[1, 2, 3, 4]]})
            assert response.status_code == 200, response.text
        assert (await client.post("/v1/models/tiny/sample", json={"count": 2, "seed": 1})).status_code == 200
        print((await client.get("/v2/models/tiny")).json()["platform"])

asyncio.run(serve())
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "onnx", "onnxruntime"}))
"""


def test_a_whole_run_imports_no_torch(root: Path) -> None:
    onnx_bundle(root)
    ended = subprocess.run(
        [sys.executable, "-c", SERVING, str(root)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["onnxruntime_onnx", "onnxruntime"]


def test_a_want_of_memory_is_pythons_memory_error(root: Path) -> None:
    nodes = [
        make_node("Constant", [], ["many"], value_ints=[1 << 44, 1]),
        make_node("Expand", ["rows", "many"], ["vast"]),
        make_node("MatMul", ["vast", "half"], ["encode"]),
    ]
    runtime = OnnxRuntime(onnx_bundle(root, encode=serialised(graph_of(Method.ENCODE, nodes=nodes))))
    with pytest.raises(MemoryError):
        runtime.run(Method.ENCODE, rows_of(1))


@pytest.mark.parametrize("says", ["[ONNXRuntimeError] : 6 : Failed to allocate memory", "std::bad_alloc"])
def test_a_graph_that_memory_does_not_suffice_to_open_is_not_called_invalid(
    root: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError(says)

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    with pytest.raises(MemoryError):
        OnnxRuntime(onnx_bundle(root))
