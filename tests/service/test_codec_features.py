"""Rows as objects by feature name."""

import numpy as np
import pytest

from service.codecs.lists import rows_from_json
from service.codecs.rows import RowSpec
from service.errors import InvalidContent, TooManyRows

NAMES = ("temperature", "pressure/bar", "flöw")
SPEC = RowSpec(3, 4, "#/inputs", names=NAMES)
ROW = {"flöw": 3.5, "temperature": 1, "pressure/bar": 2.25}


def faults_of(value: object, spec: RowSpec = SPEC) -> list[tuple[str, str]]:
    with pytest.raises(InvalidContent) as caught:
        rows_from_json(value, spec)
    return [(fault.pointer, fault.detail) for fault in caught.value.faults]


@pytest.mark.parametrize("value", [[ROW], ROW, [[1, 2.25, 3.5]], [1, 2.25, 3.5]])
def test_a_row_may_be_an_object_in_any_order_or_a_list_in_the_bundles_order(value: object) -> None:
    rows = rows_from_json(value, SPEC)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[1, 2.25, 3.5]]


def test_a_missing_feature_is_named_and_so_is_an_unknown_one_with_what_was_probably_meant() -> None:
    faults = faults_of([ROW, {"temprature": 1, "pressure/bar": 2, "flöw": 3}])
    assert faults == [
        ("#/inputs/1", "the feature 'temperature' is missing"),
        ("#/inputs/1/temprature", "the bundle has no such feature; did you mean 'temperature'?"),
    ]


@pytest.mark.parametrize(
    ("wrong", "detail"),
    [
        ("12", "a string stands where a number belongs"),
        (True, "a boolean stands where a number belongs"),
        (None, "null stands where a number belongs"),
        (1e39, "the number is too large for float32"),
    ],
)
def test_a_wrong_value_is_pointed_at_by_its_name(wrong: object, detail: str) -> None:
    assert faults_of([ROW, ROW | {"pressure/bar": wrong}]) == [("#/inputs/1/pressure~1bar", detail)]
    assert faults_of([ROW | {"flöw": wrong}]) == [("#/inputs/0/fl%C3%B6w", detail)]


def test_objects_and_lists_do_not_mix() -> None:
    assert faults_of([ROW, [1, 2, 3]]) == [("#/inputs/1", "an array stands where an object by feature name belongs")]
    assert faults_of([[1, 2, 3], ROW]) == [("#/inputs/1", "an object stands where an array of 3 belongs")]


def test_without_feature_names_an_object_is_no_row() -> None:
    bare = RowSpec(3, 4, "#/inputs")
    assert faults_of([ROW], bare)[0] == ("#/inputs/0", "an object stands where an array of 3 belongs")


def test_the_limit_of_rows_holds_for_objects() -> None:
    with pytest.raises(TooManyRows):
        rows_from_json([ROW] * 5, SPEC)
