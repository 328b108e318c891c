"""Bodies that are wrong in a million places: refused as fast as if they were so in one, and by name."""

import json
from typing import Any

import pytest

from service.api import requests
from service.codecs import flat_json
from service.errors import InvalidContent, TooManyRows
from tests.service.serving import ROWS, Served, assert_problem

TENSOR = {"name": "input", "shape": [2, 4], "datatype": "FP32", "data": ROWS}
MANY: dict[str, Any] = {str(number): None for number in range(65)}


async def test_more_fields_than_any_request_has_are_counted_and_not_listed(served: Served) -> None:
    body = {"inputs": ROWS, **MANY}
    problem = assert_problem(await served.post("tiny/encode", json=body), InvalidContent)
    assert problem["detail"] == "the request has 66 fields, more than any has"
    assert problem["errors"] == [{"detail": "the fields are inputs, log_variances, decimals", "pointer": "#"}]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"inputs": [TENSOR], **MANY}, "the request has 66 fields"),
        ({"inputs": [TENSOR], "parameters": MANY}, "#/parameters: an object of at most 64 members belongs here"),
        ({"inputs": [TENSOR | MANY]}, "#/inputs/0: an object of at most 64 members belongs here"),
        ({"inputs": [TENSOR | {"parameters": MANY}]}, "#/inputs/0/parameters: an object of at most 64"),
        ({"inputs": [TENSOR | {"shape": [1] * 9}]}, "#/inputs/0/shape: List should have at most 8 items"),
        ({"inputs": [TENSOR], "outputs": [{"name": "score"}] * 65}, "#/outputs: List should have at most 64 items"),
        ({"inputs": [TENSOR], "outputs": [{"name": "score"} | MANY]}, "#/outputs/0: an object of at most 64"),
    ],
)
async def test_under_v2_no_object_has_so_many_members(served: Served, body: Any, pointer: str) -> None:
    refused = await served.client.post("/v2/models/tiny/infer", json=body)
    assert refused.status_code == 422
    assert pointer in refused.json()["error"]


async def test_where_there_are_thousands_of_faults_none_is_listed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MOST_ERRORS", 3)
    problem = assert_problem(
        await served.post("tiny/encode", json={"inputs": ROWS, "a": 1, "b": 1, "c": 1, "d": 1}), InvalidContent
    )
    assert (problem["detail"], "errors" in problem) == ("the request is wrong in 4 places", False)


async def test_no_object_is_made_of_each_of_too_many_rows(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(*_: Any) -> list[Any]:
        pytest.fail("the rows are gone through one by one")

    monkeypatch.setattr(flat_json, "list", count, raising=False)
    content = json.dumps({"inputs": [[0]] * 5000})
    assert_problem(await served.post("tiny/encode", content=content), TooManyRows)
