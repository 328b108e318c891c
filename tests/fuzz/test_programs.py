"""Damaged and hostile programs: a BundleError, or nothing in them that another parser finds forbidden."""

import ast
import re
from pathlib import Path

import onnx
from hypothesis import assume
from hypothesis import strategies as st

from bundle.errors import BundleError
from bundle.inspection.graph import check_graph
from bundle.inspection.program import inspected
from bundle.inspection.source import CONVERSIONS, METHODS, OPERATORS, check_source
from tests.fuzz.budget import damaged, fuzzed
from tests.service.scripted import archive_of, members_of

BUNDLE = Path(__file__).parents[2] / "models" / "fashion-linear" / "1"
PROGRAM = inspected((BUNDLE / "model.pt").read_bytes())
GRAPH = (BUNDLE / "encode.onnx").read_bytes()


MEMBERS = members_of(PROGRAM)
TEXTS = sorted(name for name in MEMBERS if "/data/" not in name and "/constants/" not in name)


@fuzzed(150, content=damaged(PROGRAM[-8000:], (b"PK\x05\x06", b"PK\x01\x02", b"PK\x06\x07", b"\xff\xff\xff\xff")))
def test_a_damaged_archive_is_refused_or_says_the_same(content: bytes) -> None:
    """Its directory is what is damaged: the bytes of the members stay."""
    try:
        found = inspected(PROGRAM[:-8000] + content)
    except BundleError:
        return
    assert inspected(found) == found
    assert set(members_of(found).values()) <= set(MEMBERS.values())


PICKLED = (
    b"cos\nsystem\n",
    b"ctorch\nFloatStorage\n",
    b"(",
    b"t",
    b"R",
    b"b",
    b"Q",
    b"\x81",
    b"r\xff\xff\xff\x7f",
    b"K\xff",
)


@fuzzed(200, data=st.data(), name=st.sampled_from(TEXTS))
def test_a_damaged_member_is_refused_or_harmless(data: st.DataObject, name: str) -> None:
    content = data.draw(damaged(MEMBERS[name], PICKLED))
    assume(content != MEMBERS[name])
    try:
        found = inspected(archive_of(MEMBERS | {name: content}))
    except BundleError:
        return
    assert members_of(found) == MEMBERS | {name: content}


WORDS = [
    *("torch", "ops", "prim", "aten", "save", "add", "mul", "getattr", "int", "forward", "forward1", "encode", "self"),
    *("x", "y", "NumToTensor", "__torch__", "classes", "class", "def", "return", "Module", "CONSTANTS", "c0"),
    *(".", ".", ".", "(", "(", "(", ")", ")", ")", "[", "]", ",", ":", "=", "-", "->", "1", "1.", '"0"', '"save"'),
    *("\n", "\n  ", "\n    ", " ", "#", "+", "\\", "'", '"', '"""', "\t", "\r", "lambda", "for", "in", "if", "else"),
]
LINES = [
    "x = torch.add(x, y)\n",
    "y = torch.save(x, y)\n",
    "f = x.save\n",
    "f(x)\n",
    'y = getattr(x, "save")\n',
    "y = (x).forward1(x, )\n",
    "y = ops.prim.NumToTensor(torch.size(x, 1))\n",
    "def forward(self, x):\n  return x\n",
    "class A(Module):\n  x : int\n",
]


def allowed(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(ast.Name("torch"), name):
            return name in OPERATORS
        case ast.Attribute(ast.Attribute(ast.Name("ops"), "prim"), "NumToTensor"):
            return True
        case ast.Attribute(_, name):
            return METHODS.fullmatch(name) is not None
        case ast.Name(name):
            return name in CONVERSIONS
    return False


@fuzzed(500, words=st.lists(st.sampled_from(WORDS) | st.sampled_from(LINES), max_size=30), spaced=st.booleans())
def test_in_source_that_passes_another_parser_finds_no_call_that_is_forbidden(words: list[str], spaced: bool) -> None:
    source = (" " if spaced else "").join(words)
    try:
        check_source({"code/__torch__/a.py": source.encode()})
    except BundleError:
        return
    assert not re.search(r"torch\.save\s*\(", source)
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert all(map(allowed, calls)), source
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While | ast.If | ast.Lambda)]


def domains(graph: onnx.GraphProto) -> set[str]:
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    inner += [g for node in graph.node for a in node.attribute for g in a.graphs]
    return {node.domain for node in graph.node}.union(*map(domains, inner))


@fuzzed(500, content=damaged(GRAPH, (b"\x3a\x0dcom.microsoft", b"\x2a\x02\x32\x00", b"\x0a\x02", b"\x3a\x80\x01")))
def test_a_damaged_graph_that_passes_has_no_other_operators_to_other_parsers(content: bytes) -> None:
    try:
        check_graph("encode.onnx", content)
    except BundleError:
        return
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception:  # protobuf's own error, of whatever implementation
        return
    assert domains(model.graph) <= {"", "ai.onnx"}
    assert not model.functions
