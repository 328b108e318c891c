"""What stands on the lines of a stream: the answers of single requests, problems in place, and nothing lost."""

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundle.calibration import Floats
from bundle.manifest import InputSpec
from bundle.operations import Method
from service import errors
from service.api import streams
from service.api.answers import SINGULAR
from service.codecs.ndjson import LineSplitter, rows_from_lines
from service.codecs.rows import RowSpec
from tests.service.programs import Program
from tests.service.serving import Served, assert_problem, serving

NDJSON = {"Content-Type": "application/x-ndjson"}
LIMIT = 200
GOOD = b"[0, 0.25, 0.5, 1]"


def poisoned(_: Method, rows: Floats) -> None:
    if (rows == 666).any():
        raise RuntimeError("secret")


@pytest.fixture(scope="module")
async def served(models: Path) -> AsyncIterator[Served]:
    """The app with short lines and small batches, and a program that raises where a row holds 666."""
    async with serving(models, Program(poisoned), max_line_bytes=LIMIT, max_batch_rows=8) as app:
        yield app


async def stream(served: Served, path: str, *lines: bytes, **arguments: Any) -> list[Any]:
    """The lines that answer these lines."""
    response = await served.post(path, content=b"\n".join(lines), headers=NDJSON, **arguments)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("tiny/encode", {}),
        ("vae/encode", {"log_variances": True}),
        ("tiny/decode", {}),
        ("tiny/reconstruct", {}),
        ("denoiser/denoise", {}),
        ("tiny/anomaly-score", {"alpha": 0.25, "maps": True}),
        ("tiny/anomaly-score", {"threshold": 0.01}),
        ("raw/anomaly-score", {}),
    ],
)
async def test_the_lines_say_what_the_json_answer_says(served: Served, path: str, query: dict[str, Any]) -> None:
    generator = np.random.default_rng(1)
    field, size = ("latents", 2) if path.endswith("decode") else ("inputs", 4)
    rows = generator.random((50, size), dtype=np.float32).astype(float).tolist()
    answer = (await served.post(path, json={field: rows, **query})).json()
    content = b"\n".join(json.dumps(row).encode() for row in rows)
    response = await served.post(path, content=content, headers=NDJSON, params=query)
    *lines, end = map(json.loads, response.text.splitlines())
    assert end == {"done": True, "rows": 50}
    columns = {singular: answer[name] for name, singular in SINGULAR.items() if name in answer}
    for index, line in enumerate(lines):
        row = {name: None if values is None else values[index] for name, values in columns.items()}
        assert line == {"index": index, **row}
    assert response.headers["diabolo-digest"] == answer["digest"]
    for name in ("threshold", "calibration_size", "policy"):
        if name in answer:
            assert json.loads(response.headers["diabolo-" + name.replace("_", "-")]) == answer[name]


BAD = {
    b"nope": ("malformed-body", None),
    b"[NaN, 0, 0, 0]": ("malformed-body", None),
    b"[0, 0, 0, 0],": ("malformed-body", None),
    b"[0, 0, 0, 0],[0, 0, 0, 0]": ("malformed-body", None),
    b"\xff": ("malformed-body", None),
    b"7": ("invalid-content", "#"),
    b"null": ("invalid-content", "#"),
    b"[]": ("invalid-content", "#"),
    b"[0, 0, 0]": ("invalid-content", "#"),
    b'[0, "x", 0, 0]': ("invalid-content", "#/1"),
    b"[0, 0, 0, 1e39]": ("invalid-content", "#/3"),
    b"[[0, 0], [0, null]]": ("invalid-content", "#/1/1"),
    b"[[0, 0, 0, 0], [0, 0, 0, 0]]": ("invalid-content", "#"),
    b'{"inputs": [[0, 0, 0, 0]]}': ("invalid-content", "#"),
    b"[" + b"0" * LIMIT + b"]": ("line-too-long", None),
}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[:24].decode(errors="replace"))
@pytest.mark.parametrize("place", [0, 5, 19])
async def test_a_bad_line_has_a_problem_in_its_place_and_the_others_their_results(
    served: Served, bad: bytes, place: int
) -> None:
    lines = [b"[%d, 0, 0, 0]" % index for index in range(20)]
    lines[place] = bad
    *found, end = await stream(served, "tiny/encode", *lines)
    assert end == {"done": True, "rows": 20}
    slug, pointer = BAD[bad]
    for index, line in enumerate(found):
        assert line["index"] == index
        if index != place:
            assert line["latent"] == [index, 0]
            continue
        problem = line["problem"]
        assert problem["type"] == f"/problems/{slug}"
        assert (problem["instance"], len(problem["request_id"])) == ("/v1/models/tiny/encode", 32)
        assert [fault["pointer"] for fault in problem.get("errors", [])][:1] == ([pointer] if pointer else [])
        if slug == "invalid-content":
            assert problem["detail"] == "a line must be an array of 4 numbers, or nested as 2 x 2"


async def test_blank_lines_do_not_count_and_the_last_needs_no_end(served: Served) -> None:
    content = b"\r\n\n" + GOOD + b"\r\n  \n\n" + GOOD
    response = await served.post("tiny/encode", content=content, headers=NDJSON)
    assert [json.loads(line).get("index") for line in response.text.splitlines()] == [0, 1, None]


@pytest.mark.parametrize("content", [b"", b"\n\n"])
async def test_no_lines_are_none(served: Served, content: bytes) -> None:
    response = await served.post("tiny/encode", content=content, headers=NDJSON)
    assert response.text == '{"done":true,"rows":0}\n'


async def test_a_row_whose_result_overflows_is_found_among_its_neighbours(served: Served) -> None:
    lines = [GOOD] * 20
    lines[3] = lines[11] = lines[12] = b"[1e38, 0, 0, 0]"
    found = await stream(served, "tiny/reconstruct", *lines)
    assert [line["index"] for line in found[:-1] if "problem" in line] == [3, 11, 12]
    assert "far beyond tiny/2's range" in found[3]["problem"]["detail"]


async def test_a_forward_pass_that_fails_concerns_its_batch_alone(served: Served) -> None:
    lines = [GOOD] * 20
    lines[9] = b"[666, 0, 0, 0]"
    found = await stream(served, "tiny/encode", *lines)
    failed = {line["index"]: line["problem"] for line in found[:-1] if "problem" in line}
    assert list(failed) == list(range(8, 16))
    assert {problem["type"] for problem in failed.values()} == {"/problems/internal-error"}
    assert "secret" not in json.dumps(found)
    assert found[-1] == {"done": True, "rows": 20}


async def test_rows_out_of_range_are_answered_with_a_warning_each(served: Served) -> None:
    found = await stream(served, "tiny/encode", GOOD, b"[0, 0, 0, 200]", GOOD)
    assert ["warnings" in line for line in found] == [False, True, False, False]
    assert "divide them by 255" in found[1]["warnings"][0]


async def test_the_default_alpha_that_cannot_be_resolved_is_said_once(served: Served) -> None:
    response = await served.post("tiny/anomaly-score", content=GOOD + b"\n", headers=NDJSON)
    assert "cannot resolve the default alpha" in response.headers["diabolo-warnings"]
    assert "warnings" not in response.text


@pytest.mark.parametrize(
    ("path", "query", "fields", "error"),
    [
        ("tiny/anomaly-score", {"alpha": "0.001"}, {}, errors.InvalidContent),
        ("tiny/anomaly-score", {"alpha": "x"}, {}, errors.InvalidContent),
        ("tiny/encode", {"alpha": "0.5"}, {}, errors.InvalidContent),
        ("tiny/encode", {"inputs": "1"}, {}, errors.InvalidContent),
        ("raw/anomaly-score", {"alpha": "0.5"}, {}, errors.NotCalibrated),
        ("tiny/encode", {"log_variances": "true"}, {}, errors.OperationNotSupported),
        ("tiny/denoise", {}, {}, errors.OperationNotSupported),
        ("tiny/encode", {}, {"Accept": "application/json"}, errors.NotAcceptable),
        ("tiny/encode", {}, {"Content-Encoding": "br"}, errors.UnsupportedMediaType),
        ("vae/sample", {}, {}, errors.UnsupportedMediaType),
        ("tiny/interpolate", {}, {}, errors.UnsupportedMediaType),
        ("nobody/encode", {}, {}, errors.UnknownModel),
    ],
)
async def test_what_concerns_the_whole_request_is_refused_before_it_begins(
    served: Served, path: str, query: dict[str, str], fields: dict[str, str], error: type[errors.ServiceError]
) -> None:
    response = await served.post(path, content=GOOD, params=query, headers={**NDJSON, **fields})
    assert_problem(response, error)


@pytest.mark.parametrize("media", ["application/x-ndjson; charset=utf-8", "application/jsonl", "Application/NDJSON"])
async def test_the_other_names_of_the_type_are_known(served: Served, media: str) -> None:
    response = await served.post("tiny/encode", content=GOOD, headers={"Content-Type": media})
    assert response.headers["content-type"] == "application/x-ndjson"


async def test_a_bug_ends_the_stream_without_its_text_and_the_log_has_it(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(streams, "row_members", bug)
        (end,) = await stream(served, "tiny/encode", *[GOOD] * 20)
    assert end["problem"]["type"] == "/problems/internal-error"
    assert "secret" not in json.dumps(end)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert end["problem"]["request_id"] in record.getMessage()
    assert (await stream(served, "tiny/encode", GOOD))[-1] == {"done": True, "rows": 1}


async def test_long_lines_and_answers_go_through_a_thread_and_come_out_the_same(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await stream(served, "tiny/reconstruct", GOOD, b"[]")
    threads: list[object] = []
    to_thread = asyncio.to_thread

    async def counted(function: Any, /, *arguments: object) -> object:
        threads.append(function)
        return await to_thread(function, *arguments)

    monkeypatch.setattr(streams, "LARGE_BODY_BYTES", 0)
    monkeypatch.setattr(streams, "LARGE_ANSWER_NUMBERS", 0)
    monkeypatch.setattr(asyncio, "to_thread", counted)
    there = await stream(served, "tiny/reconstruct", GOOD, b"[]")
    assert len(threads) == 3, "the line that ends, the one that does not, and one answer"
    for lines in (here, there):
        lines[1]["problem"].pop("request_id")
    assert here == there


@given(
    lines=st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=12),
    cuts=st.lists(st.integers(0, 150), max_size=12),
    limit=st.integers(1, 12),
)
def test_lines_are_the_same_however_they_come(lines: list[bytes], cuts: list[int], limit: int) -> None:
    body = b"\n".join(lines)
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    splitter = LineSplitter(limit)
    found = [line for start, stop in itertools.pairwise(places) for line in splitter.feed(body[start:stop])]
    found += splitter.end()
    expected = [line if len(line) <= limit else None for line in lines if len(line) > limit or line.strip()]
    assert found == expected


def test_rows_may_be_written_differently_on_each_line() -> None:
    spec = RowSpec.of_inputs(InputSpec(size=2, feature_names=("a", "b")), 1, pointer="#")
    lines = [b"[1, 2]", b'{"b": 4, "a": 3}', b'{"a": 3}', b'{"a": "x", "b": 0}', b"[5, 6]"]
    rows, problems = rows_from_lines(lines, spec, max_bytes=100)
    np.testing.assert_array_equal(rows, [[1, 2], [3, 4], [5, 6]])
    faults = {place: [fault.pointer for fault in problem.faults] for place, problem in problems.items()}
    assert faults == {2: ["#"], 3: ["#/a"]}
