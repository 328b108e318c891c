"""Rows as JSON: what is taken exactly, and where the refusals point."""

import copy
import itertools
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.codecs.lists import rows_from_json
from service.codecs.rows import RowSpec
from service.errors import InvalidContent, TooManyRows

IMAGE = RowSpec(4, 8, "#/inputs", ((2, 2), (2, 2, 1)))
CODE = RowSpec(2, 8, "#/latents")
MAX_FLOAT32 = float(np.finfo(np.float32).max)


def faults_of(value: object, spec: RowSpec = IMAGE) -> list[tuple[str, str]]:
    with pytest.raises(InvalidContent) as refusal:
        rows_from_json(value, spec)
    assert refusal.value.detail == f"{spec.pointer[2:]} must be {spec.expected}"
    return [(fault.pointer, fault.detail) for fault in refusal.value.faults]


@pytest.mark.parametrize(
    "value",
    [
        [[1, 2, 3, 4]],
        [1, 2, 3, 4],
        [[[1, 2], [3, 4]]],
        [[1, 2], [3, 4]],
        [[[[1], [2]], [[3], [4]]]],
        [[[1], [2]], [[3], [4]]],
        [[1.0, 2, 3.0, 4]],
    ],
)
def test_one_row_may_be_flat_or_nested_with_or_without_a_list_around_it(value: object) -> None:
    rows = rows_from_json(value, IMAGE)
    np.testing.assert_array_equal(rows, np.array([[1, 2, 3, 4]], np.float32))
    assert rows.dtype == np.float32


def test_rows_keep_their_order_and_pixels_go_row_by_row() -> None:
    np.testing.assert_array_equal(
        rows_from_json([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], IMAGE), np.arange(1, 9, dtype=np.float32).reshape(2, 4)
    )


def test_a_colour_image_has_its_channels_last() -> None:
    spec = RowSpec(12, 8, "#/inputs", ((2, 2, 3),))
    value = np.arange(24).reshape(2, 2, 2, 3)
    np.testing.assert_array_equal(rows_from_json(value.tolist(), spec), value.reshape(2, 12))
    assert faults_of(value[..., 0].tolist(), spec) == [
        ("#/inputs/0", "the array has 2 elements, not 12"),
        ("#/inputs/1", "the array has 2 elements, not 12"),
    ]


NO_ROWS = "stands where the array of rows belongs"


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        (5, [("#/inputs", f"a number {NO_ROWS}")]),
        (None, [("#/inputs", f"null {NO_ROWS}")]),
        ("rows", [("#/inputs", f"a string {NO_ROWS}")]),
        ({"rows": 1}, [("#/inputs", f"an object {NO_ROWS}")]),
        (False, [("#/inputs", f"a boolean {NO_ROWS}")]),
        ([], [("#/inputs", "there are no rows")]),
        ([[]], [("#/inputs/0", "the array has 0 elements, not 4")]),
        ([[1, 2, 3, "4"]], [("#/inputs/0/3", "a string stands where a number belongs")]),
        ([[1, True, 3, 4]], [("#/inputs/0/1", "a boolean stands where a number belongs")]),
        ([[1, 2, None, 4]], [("#/inputs/0/2", "null stands where a number belongs")]),
        ([[{}, 2, 3, 4]], [("#/inputs/0/0", "an object stands where a number belongs")]),
        ([["a", 2, 3, 4]], [("#/inputs/0/0", "a string stands where a number belongs")]),
        ([["a", 2], [3, 4]], [("#/inputs/0/0", "a string stands where a number belongs")]),
        ([[1, 2, 3, [4]]], [("#/inputs/0/3", "an array stands where a number belongs")]),
        ([[1, 2, 3]], [("#/inputs/0", "the array has 3 elements, not 4")]),
        ([1, 2, 3], [("#/inputs", "the array has 3 elements, not 4")]),
        ([1, 2, "3", 4], [("#/inputs/2", "a string stands where a number belongs")]),
        ([[1, 2, 3, 4], [1, 2, 3]], [("#/inputs/1", "the array has 3 elements, not 4")]),
        ([[1, 2, 3, 4], 5], [("#/inputs/1", "a number stands where an array of 4 belongs")]),
        ([[1, 2, 3, 4], None], [("#/inputs/1", "null stands where an array of 4 belongs")]),
        ([[[1, 2], [3]]], [("#/inputs/0/1", "the array has 1 elements, not 2")]),
        ([[[1, 2], [3, 4]], [1, 2, 3, 4]], [("#/inputs/1", "the array has 4 elements, not 2")]),
        ([[[[[[[1]]]]]]], [("#/inputs/0", "the array has 1 elements, not 4")]),
        ([[0, 0, -1e39, 0]], [("#/inputs/0/2", "the number is too large for float32")]),
        ([[0, 10**400, 0, 0]], [("#/inputs/0/1", "the number is too large for float32")]),
        ([0, 0, 0, math.inf], [("#/inputs/3", "the number is too large for float32")]),
        ([0, math.nan, 0, 0], [("#/inputs/1", "the number is too large for float32")]),
        ([[1, "2", 3, None], [1]], [("#/inputs/0/1", ""), ("#/inputs/0/3", ""), ("#/inputs/1", "")]),
    ],
)
def test_every_wrong_place_is_pointed_at(value: object, faults: list[tuple[str, str]]) -> None:
    found = faults_of(value)
    assert [pointer for pointer, _ in found] == [pointer for pointer, _ in faults]
    assert all(detail.startswith(wanted) for (_, detail), (_, wanted) in zip(found, faults, strict=True))


def test_at_most_ten_places_are_pointed_at() -> None:
    assert [pointer for pointer, _ in faults_of([["x"] * 4] * 8)] == [
        f"#/inputs/{row}/{column}" for row in range(3) for column in range(4)
    ][:10]


def test_the_refusal_says_what_would_be_right() -> None:
    assert IMAGE.expected == "an array of rows of 4 numbers, or nested as 2 x 2"
    assert CODE.expected == "an array of rows of 2 numbers"


@pytest.mark.parametrize("row", [[0, 0, 0, 0], [[0, 0], [0, 0]]])
def test_as_many_rows_as_allowed_and_no_more(row: list[object]) -> None:
    assert len(rows_from_json([row] * 8, IMAGE)) == 8
    with pytest.raises(TooManyRows, match="9 rows were sent, at most 8"):
        rows_from_json([row] * 9, IMAGE)


def test_doubles_round_to_the_nearest_float32_up_to_the_largest() -> None:
    half_a_step_more = MAX_FLOAT32 * (1 + 2**-25)
    values = [0.1, 2**63 + 1, 1e-50, half_a_step_more]
    np.testing.assert_array_equal(rows_from_json([values], IMAGE)[0], np.array([0.1, 2**63, 0, MAX_FLOAT32], "f4"))
    assert faults_of([0, 0, 0, MAX_FLOAT32 * (1 + 2**-24)]) == [("#/inputs/3", "the number is too large for float32")]


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(FINITE, min_size=4, max_size=4), min_size=1, max_size=8))
def test_a_float32_survives_json_to_the_last_bit(values: list[list[float]]) -> None:
    rows = np.array(values, np.float32)
    parsed = orjson.loads(orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY))
    assert rows_from_json(parsed, IMAGE).tobytes() == rows.tobytes()


def reference(value: Any, spec: RowSpec) -> list[list[float]] | None:
    """The rows by the definition, one value at a time; None where anything is wrong."""

    def fits(part: Any, shape: tuple[int, ...]) -> bool:
        if shape:
            return type(part) is list and len(part) == shape[0] and all(fits(inner, shape[1:]) for inner in part)
        return type(part) in {int, float} and abs(part) <= MAX_FLOAT32

    def flat(part: Any) -> list[float]:
        return [number for inner in part for number in flat(inner)] if isinstance(part, list) else [part]

    for shape in spec.shapes:
        if fits(value, shape):
            return [flat(value)]
        if type(value) is list and value and all(fits(row, shape) for row in value):
            return [flat(row) for row in value]
    return None


NUMBERS = st.floats(-1e3, 1e3) | st.integers(-(2**70), 2**70)
JUNK: st.SearchStrategy[object] = st.sampled_from(
    [None, True, "x", {}, [], [1], [[1, 2], [3, 4]], [1, 2, 3, 4], 1e39, -(10**60)]
)


@st.composite
def nested_values(draw: st.DrawFn) -> Any:
    """Rows as they should be, with up to two places spoilt: a value, an array or a whole row replaced or removed."""
    shape = draw(st.sampled_from([(4,), (2, 2), (2, 2, 1), (3,)]))
    leaves = itertools.cycle(draw(st.lists(NUMBERS, min_size=12, max_size=12)))

    def build(lengths: tuple[int, ...]) -> Any:
        return [build(lengths[1:]) for _ in range(lengths[0])] if lengths else next(leaves)

    value = build(shape if draw(st.booleans()) else (draw(st.integers(1, 3)), *shape))
    for _ in range(draw(st.integers(0, 2))):
        place = value
        while draw(st.booleans()) and any(isinstance(part, list) and part for part in place):
            place = draw(st.sampled_from([part for part in place if isinstance(part, list) and part]))
        if place:
            index = draw(st.integers(0, len(place) - 1))
            place[index : index + 1] = draw(st.sampled_from([[], [copy.deepcopy(draw(JUNK))]]))
    return value


def resolve(value: Any, pointer: str) -> Any:
    for part in pointer.removeprefix("#/inputs").split("/")[1:]:
        value = value[int(part)]
    return value


@given(nested_values())
@settings(max_examples=400)
def test_the_fast_path_takes_exactly_what_is_right_and_the_slow_path_explains_the_rest(value: Any) -> None:
    expected = reference(value, IMAGE)
    if expected is not None:
        rows = rows_from_json(value, IMAGE)
        assert rows.tobytes() == np.array(expected, np.float32).tobytes()
        assert rows.shape == (len(expected), 4)
    else:
        faults = faults_of(value)
        assert 1 <= len(faults) <= 10
        assert len(set(faults)) == len(faults)
        for pointer, _ in faults:
            resolve(value, pointer)
