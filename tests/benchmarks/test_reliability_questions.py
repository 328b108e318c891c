"""What the reliability benchmark asks besides rows as JSON and .npy: streams, pictures, samples and paths. A wrong
line, pixel or code is wrong, and so is an answer that stops without a reason."""

import io
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.reliability.bundles import shipped
from benchmarks.reliability.lines import read_lines
from benchmarks.reliability.paths import path_questions
from benchmarks.reliability.pictures import PIXEL_ATOL, picture_questions, read_picture
from benchmarks.reliability.question import Question
from benchmarks.reliability.tally import Verdict
from service.operations import InterpolationMethod, draw_codes, path_between

FIELDS = {"diabolo-version": "3"}
LINES = [{"index": 0, "score": 0.5}, {"index": 1, "score": 0.25}]
DONE = {"done": True, "rows": 2}
LATE = {"problem": {"title": "Deadline exceeded", "status": 504}}


def stream() -> Question:
    expected = {3: {"scores": np.array([0.5, 0.25], np.float32)}}
    read = partial(read_lines, shapes={"scores": ()})
    return Question.post("/", [b"[1]\n[", b"2]\n"], read=read, expected=expected, fields={})


def judged(*lines: Mapping[str, Any]) -> tuple[Verdict, str]:
    return stream().judge(200, FIELDS, "".join(json.dumps(line) + "\n" for line in lines).encode())


def test_a_stream_is_sent_in_chunks_as_it_is_cut() -> None:
    head, _, body = stream().request.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert body == b"5\r\n[1]\n[\r\n3\r\n2]\n\r\n0\r\n\r\n"


def test_a_stream_that_is_done_is_right() -> None:
    assert judged(*LINES, DONE) == (Verdict.OK, "")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([LINES[0], {"index": 1, "score": 0.26}, DONE], "does not answer these"),
        (LINES, "cannot be read"),  # without its end
        ([LINES[0], DONE], "the stream ends with"),
        ([LINES[0], {"done": True, "rows": 1}], "of shape"),
        ([*LINES[::-1], DONE], "out of order"),
        ([LINES[0], {"index": 1, "problem": {"title": "Out of memory"}}, DONE], "1 lines have no result"),
        ([*LINES, {"problem": {"title": "Shutting down", "status": 503}}], "the stream ends with"),
        ([{"index": 0, "score": 0.6}, LATE], "does not answer these"),  # before it was cut off
        ([], "cannot be read"),
    ],
)
def test_any_line_and_the_end_can_be_wrong(lines: list[dict[str, Any]], reason: str) -> None:
    verdict, said = judged(*lines)
    assert verdict is Verdict.WRONG
    assert reason in said


def test_a_stream_of_rows_may_be_cut_off_before_the_first() -> None:
    read = partial(read_lines, shapes={"scores": (4,)})
    asked = Question.post("/", [], read=read, expected={3: {"scores": np.ones((2, 4), np.float32)}}, fields={})
    assert asked.judge(200, FIELDS, json.dumps(LATE).encode())[0] is Verdict.LATE


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_stream_whose_time_was_over_is_late_within_the_answer(count: int) -> None:
    assert judged(*LINES[:count], LATE) == (Verdict.LATE, "Deadline exceeded, within an answer")


def test_a_pixel_may_be_rounded_and_no_more() -> None:
    pixels = np.array([[10, 20], [30, 40]], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")

    def verdict(wanted: list[float]) -> Verdict:
        expected = {3: {"pixels": np.array([wanted], np.float32)}}
        asked = Question.post("/", b"", read=read_picture, expected=expected, fields={}, atol=PIXEL_ATOL)
        return asked.judge(200, FIELDS, buffer.getvalue())[0]

    assert verdict([10.4, 19.6, 30.49, 40]) is Verdict.OK
    assert verdict([10.4, 19.6, 30.49, 41]) is Verdict.WRONG


def test_a_broken_picture_is_a_wrong_answer() -> None:
    (asked, *_) = [one for one in picture_questions(shipped("fashion-linear")) if b"Accept: image/png" in one.request]
    assert asked.judge(200, {"diabolo-version": "1"}, b"\x89PNG nothing")[0] is Verdict.WRONG


def test_drawn_codes_and_arcs_are_those_of_the_service() -> None:
    """They are computed twice, there and in the benchmark, each time from what is promised."""
    bundle, checked = shipped("fashion-vae"), 0
    for asked in path_questions(bundle):
        document = json.loads(asked.request.partition(b"\r\n\r\n")[2])
        latents = asked.expected[1].get("latents")
        if latents is not None and "seed" in document:
            where = {"seed": document["seed"], "offset": document.get("offset", 0), "count": document["count"]}
            drawn = draw_codes(bundle.manifest.latent.size, **where) * np.float32(document.get("temperature", 1))
            np.testing.assert_array_equal(latents, drawn)
            checked += 1
        if document.get("method") == "slerp":
            start, end = (np.float32(document[name]).ravel() for name in ("start", "end"))
            arc = path_between(start, end, steps=document["steps"], method=InterpolationMethod.SLERP)
            assert latents == pytest.approx(arc, rel=1e-5, abs=1e-6)
            checked += 1
    assert checked == 3
