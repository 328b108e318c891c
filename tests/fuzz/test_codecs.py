"""Hostile bodies: a ServiceError of the kind that clients are told, or rows that are what they must be."""

import io
import json
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from hypothesis import strategies as st
from PIL import Image

from bundle.calibration import Floats
from bundle.manifest import ImageSpec
from service.api.v2.tensors import read_message, rows_from
from service.codecs.flat_json import flat_rows
from service.codecs.images import row_from_image
from service.codecs.lists import rows_from_json
from service.codecs.ndjson import LineSplitter, rows_from_lines
from service.codecs.npy import rows_from_npy
from service.codecs.rows import RowSpec
from service.errors import ServiceError
from tests.fuzz.budget import damaged, fuzzed

SPEC = RowSpec(4, 8, "#/inputs", ((2, 2), (2, 2, 1)))
NAMED = RowSpec(2, 8, "#/inputs", (), ("a", "b/~"))
PICTURE = ImageSpec(height=2, width=2, channels=1)


def assert_rows(rows: Floats, spec: RowSpec) -> None:
    assert rows.dtype == np.float32
    assert rows.ndim == 2
    assert 1 <= len(rows) <= spec.max_rows
    assert rows.shape[1] == spec.size
    assert np.isfinite(rows).all()


def assert_client_error(error: ServiceError) -> None:
    assert 400 <= error.status < 500
    assert str(error).isprintable()


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


NPY = [saved(np.arange(8, dtype=kind).reshape(2, 4)) for kind in ("<f4", ">f8", "<i2", "<f2")]
HEADERS = (b"'<f4'", b"'|O'", b"'<U9'", b"(2, 4)", b"(-2, 4)", b"(4,)", b"99999999", b"True", b"[('a', '<f4')]", b"'''")


@fuzzed(500, data=st.data(), body=st.sampled_from(NPY))
def test_npy(data: st.DataObject, body: bytes) -> None:
    try:
        assert_rows(rows_from_npy(data.draw(damaged(body, HEADERS)), SPEC), SPEC)
    except ServiceError as error:
        assert_client_error(error)


def encoded(mode: str, image_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (2, 2)).save(buffer, image_format)
    return buffer.getvalue()


PICTURES = {
    "PNG": [encoded(mode, "PNG") for mode in ("L", "RGB", "RGBA", "LA", "P", "1", "I;16")],
    "JPEG": [encoded(mode, "JPEG") for mode in ("L", "RGB", "CMYK")],
}
CHUNKS = (b"IHDR", b"IDAT", b"IEND", b"tRNS", b"eXIf", b"iCCP", b"acTL", b"Exif\0\0II*\0", b"\xff\xda", b"\xff\xc0")


@fuzzed(300, data=st.data(), image_format=st.sampled_from(sorted(PICTURES)))
def test_pictures(data: st.DataObject, image_format: str) -> None:
    body = data.draw(damaged(data.draw(st.sampled_from(PICTURES[image_format])), CHUNKS))
    try:
        row = row_from_image(body, image_format=image_format, spec=PICTURE, value_range=(-1.0, 1.0), max_pixels=10_000)
    except ServiceError as error:
        assert_client_error(error)
        return
    assert_rows(row, SPEC)
    assert np.abs(row).max() <= 1


NUMBERS = st.integers() | st.floats() | st.integers(-(10**400), 10**400) | st.integers(0, 3)
SCALARS = st.none() | st.booleans() | st.text(max_size=3) | NUMBERS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner))
ROW = st.lists(NUMBERS, min_size=4, max_size=4)
NEARLY = st.lists(ROW | ROW | st.lists(ROW, max_size=2) | VALUES, max_size=9)


@fuzzed(150, value=VALUES | NEARLY | ROW)
def test_parsed_json(value: object) -> None:
    for spec in (SPEC, NAMED):
        try:
            assert_rows(rows_from_json(value, spec), spec)
        except ServiceError as error:
            assert_client_error(error)


@fuzzed(200, value=st.dictionaries(st.sampled_from(["inputs", "alpha", "["]), VALUES | NEARLY | ROW), data=st.data())
def test_the_fast_reader_of_json_says_what_the_slow_one_says_or_nothing(
    value: dict[str, Any], data: st.DataObject
) -> None:
    content = json.dumps(value).encode()
    if data.draw(st.booleans()):
        content = data.draw(damaged(content, (b"[", b"]", b",", b'"', b"1e999", b"NaN", b"-0", b"\\ud800")))
    found = flat_rows(content, "inputs", SPEC.size, SPEC.max_rows)
    if found is None:
        return
    parsed = orjson.loads(content)
    np.testing.assert_array_equal(found.rows, rows_from_json(parsed["inputs"], SPEC))
    assert dict(found.others) == {name: member for name, member in parsed.items() if name != "inputs"}


LINES = st.lists(st.sampled_from([b"[1,2,3,4]", b"[[1,2],[3,4]]", b"[1,2]", b"{", b"", b" ", b"\xff", b'"a"', b"NaN"]))


@fuzzed(500, lines=LINES, noise=st.binary(max_size=20), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_streams_are_cut_into_the_same_lines_whatever_the_pieces(
    lines: list[bytes], noise: bytes, cuts: list[int]
) -> None:
    content = b"\n".join([*lines, noise])
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    splitters = LineSplitter(8), LineSplitter(8)
    whole = [*splitters[0].feed(content), *splitters[0].end()]
    pieces = [line for start, end in pairwise(edges) for line in splitters[1].feed(content[start:end])]
    assert [*pieces, *splitters[1].end()] == whole
    found = rows_from_lines(whole, SPEC, max_bytes=8)
    assert len(found.values) + len(found.problems) == len(whole)
    assert np.isfinite(found.values).all()
    for problem in found.problems.values():
        assert_client_error(problem)


def tensor(**changes: object) -> dict[str, object]:
    return {"name": "input", "shape": [2, 4], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6, 7, 8]} | changes


BINARY = {key: value for key, value in tensor(parameters={"binary_data_size": 32}).items() if key != "data"}
HEAD = json.dumps({"inputs": [BINARY]}).encode()
RAW = np.arange(8, dtype="<f4").tobytes()
TOLD = (b"32", b"FP16", b"INT8", b"BYTES", b"[4]", b"[8]", b"[-2,4]", b"[0]", b'"data":[1],', b"1e30", b"null", b"true")


@fuzzed(500, content=damaged(HEAD + RAW, TOLD), length=st.sampled_from([str(len(HEAD)), None]) | st.text(max_size=20))
def test_raw_tensors(content: bytes, length: str | None) -> None:
    try:
        assert_rows(rows_from(read_message(content, header_length=length), SPEC), SPEC)
    except ServiceError as error:
        assert_client_error(error)


FIELDS = st.sampled_from(["name", "shape", "datatype", "data", "parameters"])
KINDS = st.sampled_from(["FP32", "FP16", "FP64", "INT8", "UINT64", "BOOL", "BYTES", "BF16"])
SHAPES = st.lists(st.integers(-2, 9) | st.integers(), max_size=4)
CHANGES = st.dictionaries(FIELDS, VALUES | NEARLY | ROW | KINDS | SHAPES)


@fuzzed(200, changes=CHANGES, shape=st.sampled_from([[2, 4], [4], [2, 2], [1, 2, 2, 1]]), data=NEARLY | ROW)
def test_tensors_as_json(changes: dict[str, Any], shape: list[int], data: object) -> None:
    content = json.dumps({"inputs": [tensor(shape=shape, data=data) | changes]}).encode()
    try:
        assert_rows(rows_from(read_message(content, header_length=None), SPEC), SPEC)
    except ServiceError as error:
        assert_client_error(error)
