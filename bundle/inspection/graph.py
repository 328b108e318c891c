"""What an ONNX graph may hold, checked before onnxruntime sees any of it, and without the package `onnx`.

onnxruntime knows operators of its own beside those of the standard, one of which, `com.microsoft.EPContext`, names
files; and it takes a format of its own beside ONNX. Bundles need neither. The encoding is that of protocol buffers
(https://protobuf.dev/programming-guides/encoding/), the numbers of fields are those of onnx.proto.
"""

from collections.abc import Iterator

from bundle.errors import ProgramForbidden, ProgramInvalid

__all__ = ["check_graph"]

STANDARD = (b"", b"ai.onnx")
# ModelProto: ir_version, producer_name, producer_version, domain, model_version, doc_string, graph, opset_import and
# metadata_props; neither training_info nor functions.
MODEL_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14})
MODEL_GRAPH = 7
GRAPH_NODE = 1
NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 4, 5, 7
ATTRIBUTE_GRAPHS = (6, 11)
MOST_NESTED = 8
ORT_FORMAT = b"ORTM"


def check_graph(name: str, content: bytes) -> None:
    """Returns when the file `name` holds a model in ONNX whose nodes, at every depth, are operators of the standard.

    Raises ProgramInvalid for what is no such model, and ProgramForbidden, which names it, for anything else in one.
    """
    try:
        if content[4:8] == ORT_FORMAT:
            raise ProgramForbidden(f"{name} is in onnxruntime's own format; bundles hold ONNX")
        fields = list(_fields(content))
        strange = {number for number, _ in fields} - MODEL_FIELDS
        if strange:
            what = {20: "steps of training", 25: "functions of its own"}.get(min(strange), f"the field {min(strange)}")
            raise ProgramForbidden(f"{name} has {what}, which no graph of ours has")
        for number, value in fields:
            if number == MODEL_GRAPH:
                _check_nodes(name, value, depth=0)
    except ValueError as error:
        raise ProgramInvalid(f"{name} is no ONNX: {error}") from None


def _check_nodes(name: str, graph: bytes, *, depth: int) -> None:
    if depth > MOST_NESTED:
        raise ProgramForbidden(f"{name} nests graphs deeper than any of ours")
    for node in (list(_fields(value)) for number, value in _fields(graph) if number == GRAPH_NODE):
        for domain in (value for number, value in node if number == NODE_DOMAIN and value not in STANDARD):
            operator = b"".join(value for number, value in node if number == NODE_OPERATOR)
            named = f"{domain.decode('ascii', 'replace')}.{operator.decode('ascii', 'replace')}"
            raise ProgramForbidden(f"{name} uses the operator {named[:100]!r}, which is not one of the ONNX standard")
        for attribute in (value for number, value in node if number == NODE_ATTRIBUTE):
            for inner in (value for number, value in _fields(attribute) if number in ATTRIBUTE_GRAPHS):
                _check_nodes(name, inner, depth=depth + 1)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field; no content for plain numbers. Raises ValueError where it is no message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if not 8 <= key < 1 << 32:  # of a larger one, other readers may keep the lower bits alone
            raise ValueError("a field has a number that is none")
        length = 0
        match key & 7:
            case 0:
                _, at = _varint(message, at)
            case 1:
                length = 8
            case 2:
                length, at = _varint(message, at)
            case 5:
                length = 4
            case other:
                raise ValueError(f"a field has the wire type {other}")
        if at + length > len(message):
            raise ValueError("a field is longer than the message")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it has ended."""
    value = 0
    for i, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError("a number has no end")
