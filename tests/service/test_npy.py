"""Rows as .npy: every kind of number in, nothing else, and no file that can hurt."""

import ast
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.codecs.npy import npy_from_rows, rows_from_npy
from service.codecs.rows import RowSpec
from service.errors import InvalidContent, MalformedBody, ServiceError, TooManyRows

SPEC = RowSpec(4, 8, "#/inputs", ((2, 2), (2, 2, 1)))
ROWS = np.arange(8).reshape(2, 4)


def saved(array: object, *, version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), version=version)
    return buffer.getvalue()


def forged(shape: str, data: bytes = b"", *, descr: str = "'<f4'", fortran: str = "False") -> bytes:
    """A file with this header, word for word, before this data."""
    return headed(f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n", data)


def headed(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode("latin-1") + data


def faults_of(body: bytes) -> list[tuple[str, str]]:
    with pytest.raises(InvalidContent) as refusal:
        rows_from_npy(body, SPEC)
    return [(fault.pointer, fault.detail) for fault in refusal.value.faults]


KINDS = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "g", "i1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8"]
KINDS += ["u1", "<u2", ">u2", "<u4", ">u4", "<u8", ">u8"]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_float_and_integer_of_either_byte_order_and_either_layout(kind: str, order: str) -> None:
    rows = rows_from_npy(saved(np.array(ROWS, dtype=kind, order="F" if order == "F" else "C")), SPEC)
    np.testing.assert_array_equal(rows, ROWS)
    assert rows.dtype == np.dtype(np.float32)
    assert rows.flags.c_contiguous


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f8", "u1", "<i8"])
@pytest.mark.parametrize("shape", [(2, 4), (2, 2, 2), (2, 2, 2, 1)])
def test_what_numpy_writes_is_read_without_the_parser_of_python_which_fails_beside_that_of_another_thread(
    shape: tuple[int, ...], kind: str, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.array(ROWS.reshape(shape), dtype=kind, order="F" if order == "F" else "C")

    def fail(*_: object, **__: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr(ast, "literal_eval", fail)
    np.testing.assert_array_equal(rows_from_npy(saved(array), SPEC), ROWS)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f1', 'fortran_order': False, 'shape': (2, 4), }\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }\n\n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (02, 4), }\n",
    ],
    ids=["a type that there is not", "longer than announced", "no Python"],
)
def test_what_is_nearly_as_numpy_writes_it_is_left_to_numpy(header: str) -> None:
    body = headed(header, ROWS.astype("<f4").tobytes())
    try:
        wanted = np.load(io.BytesIO(body))
    except Exception:  # whatever numpy says of it
        with pytest.raises(MalformedBody):
            rows_from_npy(body, SPEC)
    else:
        np.testing.assert_array_equal(rows_from_npy(body, SPEC), wanted)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(2, 4), (2, 2, 2), (2, 2, 2, 1)])
def test_rows_may_be_flat_or_nested(shape: tuple[int, ...], order: str) -> None:
    array = np.asfortranarray(ROWS.reshape(shape)) if order == "F" else ROWS.reshape(shape)
    np.testing.assert_array_equal(rows_from_npy(saved(array), SPEC), ROWS)


@pytest.mark.parametrize("shape", [(4,), (2, 2), (2, 2, 1), (1, 4), (1, 2, 2)])
def test_a_single_row_needs_no_first_axis(shape: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(rows_from_npy(saved(ROWS[:1].reshape(shape)), SPEC), ROWS[:1])


def test_float32_values_come_through_to_the_last_bit() -> None:
    rows = np.frombuffer(np.random.default_rng(0).bytes(128), np.float32).reshape(8, 4).copy()
    rows[~np.isfinite(rows)] = -0.0
    assert rows_from_npy(saved(rows), SPEC).tobytes() == rows.tobytes()


STRUCTURED = np.zeros(2, dtype=[("a", "f4"), ("b", "f4")])


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (ROWS.astype(bool), "bool"),
        (ROWS.astype("c8"), "complex64"),
        (ROWS.astype("U3"), "<U3"),
        (ROWS.astype("S3"), "|S3"),
        (ROWS.astype("M8[s]"), "datetime64[s]"),
        (ROWS.astype("m8[s]"), "timedelta64[s]"),
        (ROWS.astype("V4"), "|V4"),
        (STRUCTURED, "[('a', '<f4'), ('b', '<f4')]"),
    ],
)
def test_what_is_not_a_number_is_refused_by_its_type(array: np.ndarray, kind: str) -> None:
    ((pointer, detail),) = faults_of(saved(array))
    assert pointer == "#/inputs"
    assert detail == f"the array's type is {kind}: no plain numbers"


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self._path,)  # type: ignore[return-value]  # what pickle takes


def test_pickled_objects_are_refused_and_never_opened(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    body = saved(np.array([[Trap(trap)] * 4], dtype=object))
    ((pointer, detail),) = faults_of(body)
    assert (pointer, detail.partition(": ")[2]) == ("#/inputs", "pickled objects, which are never opened")
    assert not trap.exists()
    np.load(io.BytesIO(body), allow_pickle=True)
    assert trap.exists(), "the trap works"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_the_first_value_that_is_no_finite_float32_is_pointed_at(value: float) -> None:
    rows = ROWS.astype(np.float64)
    rows[1, 2] = rows[1, 3] = value
    assert faults_of(saved(rows)) == [("#/inputs/1/2", "the value is not a finite float32")]


@pytest.mark.parametrize("shape", [(2, 3), (2, 5), (8,), (), (2, 2, 2, 2), (1, 1, 1, 4), (2, 2, 2, 1, 1), (2, 0)])
def test_another_shape_is_refused_and_named(shape: tuple[int, ...]) -> None:
    assert faults_of(saved(np.zeros(shape, "f4"))) == [("#/inputs", f"the array has the shape {list(shape)}")]


def test_no_rows_and_too_many_rows() -> None:
    assert faults_of(saved(np.zeros((0, 4), "f4"))) == [("#/inputs", "there are no rows")]
    assert len(rows_from_npy(saved(np.zeros((8, 4), "f4")), SPEC)) == 8
    with pytest.raises(TooManyRows, match="9 rows were sent, at most 8"):
        rows_from_npy(saved(np.zeros((9, 4), "f4")), SPEC)


def test_a_file_cut_anywhere_is_damaged() -> None:
    body = saved(ROWS.astype("f4"))
    for length in range(len(body)):
        with pytest.raises(MalformedBody):
            rows_from_npy(body[:length], SPEC)


def test_bytes_after_the_data_are_damage() -> None:
    with pytest.raises(MalformedBody, match=r"announces \[2, 4\] of float32, but 33 bytes follow it"):
        rows_from_npy(saved(ROWS.astype("f4")) + b"\0", SPEC)


def test_format_2_is_read_and_format_3_which_only_names_of_fields_need_is_not() -> None:
    np.testing.assert_array_equal(rows_from_npy(saved(ROWS, version=(2, 0)), SPEC), ROWS)
    with pytest.raises(MalformedBody, match=r"not a \.npy file of format 1\.0 or 2\.0; numpy\.save writes one"):
        rows_from_npy(saved(ROWS, version=(3, 0)), SPEC)


HOSTILE = {
    "fewer rows than there are": forged("(1, 4)", bytes(32)),
    "more rows than there are": forged("(3, 4)", bytes(32)),
    "more rows than memory": forged("(1099511627776, 4)", bytes(32)),
    "a negative length": forged("(-1, 4)", bytes(32)),
    "two negative lengths": forged("(-2, -4)", bytes(32)),
    "nothing of an endless length": forged(f"(0, {2**70})"),
    "a length of thousands of digits": forged(f"(0x{'f' * 9000}, 4)"),
    "a length that is a boolean": forged("(True, 4)", bytes(16)),
    "a length that is no integer": forged("(1.0, 4)", bytes(16)),
    "a shape that is a list": forged("[1, 4]", bytes(16)),
    "an order that is no boolean": forged("(1, 4)", bytes(16), fortran="'F'"),
    "a type that there is not": forged("(1, 4)", bytes(16), descr="'<q9'"),
    "a type that is code": forged("(1, 4)", bytes(16), descr="__import__('os').abort()"),
    "an open bracket": headed("("),
    "a thousand brackets": headed("(" * 5000),
    "a thousand signs": headed("-" * 9000 + "1"),
    "no dictionary": headed("[1, 2, 3]"),
    "a dictionary with a key that is none": headed("{[]: 1}"),
    "another dictionary": headed("{'a': 1, 2: 3}"),
    "a null byte": headed("\0"),
    "a header too long to be honest": forged("(1, 4)" + " " * 20000, bytes(16)),
    "not a .npy file": b"PK\x03\x04" + bytes(100),
    "nothing": b"",
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_file_is_malformed_and_nothing_else(attack: str) -> None:
    with pytest.raises(MalformedBody) as refusal:
        rows_from_npy(HOSTILE[attack], SPEC)
    assert len(refusal.value.detail) < 200


@pytest.mark.parametrize("axes", [5, 64, 65, 2000])
def test_an_array_of_any_number_of_axes_is_only_another_shape(axes: int) -> None:
    ((pointer, detail),) = faults_of(forged(f"({'1, ' * axes})", bytes(4)))
    assert (pointer, len(detail) < 120) == ("#/inputs", True)


@given(st.data())
@settings(max_examples=300)
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_whatever_the_bytes_the_outcome_is_rows_or_a_refusal(data: st.DataObject) -> None:
    body = bytearray(saved(np.array(ROWS, dtype=data.draw(st.sampled_from(KINDS)))))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    try:
        rows = rows_from_npy(bytes(body), SPEC)
    except ServiceError as error:
        assert len(error.detail) < 200  # noqa: PT017  # either outcome is right
    else:
        assert rows.shape[1:] == (4,)
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()


def test_answers_are_what_numpy_loads() -> None:
    rows = ROWS.astype(np.float32)
    for array in (rows, rows.T, rows[:, :2], rows[0]):
        loaded = np.load(io.BytesIO(npy_from_rows(array)), allow_pickle=False)
        np.testing.assert_array_equal(loaded, array)
        assert loaded.dtype == array.dtype
