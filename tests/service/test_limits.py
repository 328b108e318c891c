"""What bounds a request before anything is done for it: announced size, depth, values, names."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from service.errors import BodyTooLarge, TooManyRows
from tests.service.serving import ROWS, Served, assert_problem

PATHS = ["/v1/models/tiny/encode", "/v2/models/tiny/infer", "/v2/repository/index"]
NAMES = [
    "../tiny",
    "..",
    "%2e%2e",
    "/etc/passwd",
    "tiny/../../x",
    "tiny\0",
    "t" * 10_000,
    "\N{SNOWMAN}",
    "tiny\\..",
    "~",
]
WATCHED: list[list[str]] = []


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHED and event in {"open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename"}:
        WATCHED[-1].append(f"{event} {arguments[0]!r}")


@pytest.fixture(scope="module", autouse=True)
def _watched() -> None:
    """Python calls this for every file that anybody opens; what cannot be undone does nothing but for `opened`."""
    sys.addaudithook(watch)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """What is done to the file system meanwhile."""
    found: list[str] = []
    WATCHED.append(found)
    yield found
    WATCHED.pop()


@pytest.mark.parametrize("path", PATHS)
async def test_a_body_that_is_announced_as_too_large_is_refused_without_reading_any_of_it(
    served: Served, path: str
) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    for length in (32 * 2**20 + 1, 10**30):
        response = await served.client.post(path, content=body(), headers={"Content-Length": str(length)})
        assert response.status_code == BodyTooLarge.status, response.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("around", ["[{}]", '{{"inputs": {}}}', '{{"inputs": [{{"data": {}}}]}}', '{{"x": {}}}'])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
async def test_json_of_any_depth_is_refused_and_nothing_breaks(
    served: Served, path: str, around: str, opening: str
) -> None:
    for depth in (200, 1_000, 1_500, 100_000):
        closing = {"[": "]", '{"a":': "}"}[opening]
        for content in (opening * depth, opening * depth + "1" + closing * depth):
            response = await served.client.post(path, content=around.format(content).encode())
            assert response.status_code in {400, 422}, (depth, response.text[:200])
    assert (await served.post("tiny/encode", json={"inputs": ROWS})).status_code == 200


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "1e39", "null", '"nan"', "1" + "0" * 400])
async def test_what_is_no_finite_float32_is_refused_in_json_under_both_protocols(served: Served, value: str) -> None:
    rows = f"[[0, 0, 0, {value}]]"
    tensor = f'[{{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": {rows}}}]'
    for path, inputs in (("/v1/models/tiny/encode", rows), ("/v2/models/tiny/infer", tensor)):
        response = await served.client.post(path, content=f'{{"inputs": {inputs}}}'.encode())
        assert response.status_code in {400, 422}, (path, response.text)


async def test_more_rows_than_may_be_are_refused_before_any_is_drawn(served: Served) -> None:
    served.program.batches.clear()
    response = await served.post("vae/sample", json={"count": 10**9})
    assert_problem(response, TooManyRows)
    assert served.program.batches == []


@pytest.mark.parametrize("name", NAMES)
async def test_no_name_that_a_client_sends_reaches_the_file_system(
    served: Served, opened: list[str], name: str
) -> None:
    Path(__file__).read_bytes()
    assert len(opened) == 1, "it would be seen"
    opened.clear()
    part = quote(name, safe="").replace("..", "%2e%2e")  # else the client would go up by itself
    for method, path in (
        ("GET", f"/v1/models/{part}"),
        ("GET", f"/v1/models/tiny/versions/{part}"),
        ("GET", f"/v1/models/tiny/examples/{part}"),
        ("POST", f"/v1/models/{part}/encode"),
        ("POST", f"/v1/models/tiny/versions/{part}/encode"),
        ("GET", f"/v2/models/{part}"),
        ("GET", f"/v2/models/{part}/ready"),
        ("POST", f"/v2/models/{part}/infer"),
        ("GET", f"/problems/{part}"),
    ):
        response = await served.client.request(method, path, json={"inputs": ROWS} if method == "POST" else None)
        assert response.status_code in {404, 405, 422}, (path[:80], response.text[:200])
    assert [found for found in opened if ".py" not in found] == [], "FastAPI reads the source of what it calls, once"
