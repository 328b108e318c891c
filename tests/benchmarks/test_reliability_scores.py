"""What the reliability benchmark expects beside the main array of an answer: errors, p-values, verdicts and the
threshold, however they travel."""

import io
import itertools
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orjson
import pytest

from benchmarks.reliability.answers import expected_of
from benchmarks.reliability.bundles import shipped
from benchmarks.reliability.direct import direct, probe
from benchmarks.reliability.lines import line_questions
from benchmarks.reliability.question import Arrays, Question
from benchmarks.reliability.questions import questions_of
from benchmarks.reliability.tally import Verdict
from benchmarks.reliability.tensors import read_tensors, tensor_questions
from bundle.operations import Method, Operation
from service.api.v2.tensors import Output, message_from

BUNDLE = shipped("fashion-linear")
IDENTITY = {"diabolo-version": "1"}


def scored() -> tuple[Arrays, dict[str, Any]]:
    """Three rows' scores as float32, and the whole of what the service says beside them."""
    rows = probe(BUNDLE, Method.ANOMALY_SCORE, count=3, first=3)
    scores = direct(BUNDLE, Method.ANOMALY_SCORE, rows)
    calibration = BUNDLE.calibration
    assert calibration is not None
    p_values = [(1 + int((calibration.scores >= score).sum())) / (calibration.size + 1) for score in scores]
    beside = {
        "p_values": p_values,
        "is_anomaly": [p_value <= 0.01 for p_value in p_values],
        "threshold": float(calibration.scores[calibration.size - math.floor(0.01 * (calibration.size + 1))]),
    }
    return {"scores": scores}, beside


def asked_for(operation: str, wanted: str, questions: list[Question]) -> Question:
    (found,) = [
        one
        for one in questions
        if f"/{operation} HTTP" in one.request.decode("latin-1")
        and f"Accept: {wanted}\r\n".encode() in one.request
        and b"Content-Type: application/json" in one.request
    ]
    return found


WRONG_BESIDE = [
    ("p_values", lambda value: [value[0] + 1e-7, *value[1:]]),
    ("p_values", lambda value: value[:-1]),
    ("is_anomaly", lambda value: [not value[0], *value[1:]]),
    ("is_anomaly", lambda value: [None, *value[1:]]),
    ("threshold", lambda value: value * 1.001),
    ("threshold", lambda value: None),  # noqa: ARG005
]


def json_of(arrays: Arrays, beside: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    return {}, orjson.dumps({"version": 1, **arrays, **beside}, option=orjson.OPT_SERIALIZE_NUMPY)


def npy_of(arrays: Arrays, beside: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    buffer = io.BytesIO()
    np.save(buffer, arrays["scores"])
    texts = {f"diabolo-{name.replace('_', '-')}": json.dumps(value).strip("[]") for name, value in beside.items()}
    return {**IDENTITY, **texts}, buffer.getvalue()


def lines_of(arrays: Arrays, beside: dict[str, Any]) -> tuple[dict[str, str], bytes]:
    rows = [
        {"index": index, "score": score} | {"p_value": p_value, "is_anomaly": verdict}
        for index, (score, p_value, verdict) in enumerate(
            itertools.zip_longest(map(float, arrays["scores"]), beside["p_values"], beside["is_anomaly"])
        )
    ]
    ends = [*rows, {"done": True, "rows": len(rows)}]
    texts = {"diabolo-threshold": json.dumps(beside["threshold"])}
    return {**IDENTITY, **texts}, b"".join(orjson.dumps(line) + b"\n" for line in ends)


FORMS: Mapping[str, tuple[Callable[..., tuple[dict[str, str], bytes]], Callable[[], Question]]] = {
    "json": (json_of, lambda: asked_for("anomaly-score", "application/json", questions_of(BUNDLE, counts=(3,)))),
    "npy": (npy_of, lambda: asked_for("anomaly-score", "application/x-npy", questions_of(BUNDLE, counts=(3,)))),
    "lines": (lines_of, lambda: line_questions(BUNDLE, counts=(3,))[-1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_scores_with_the_p_values_and_verdicts_that_follow_from_the_calibration_are_right(form: str) -> None:
    write, asked = FORMS[form]
    fields, body = write(*scored())
    assert asked().judge(200, fields, body) == (Verdict.OK, "")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "change"), WRONG_BESIDE)
def test_a_p_value_verdict_or_threshold_that_does_not_follow_from_the_calibration_is_wrong(
    form: str, name: str, change: Callable[[Any], Any]
) -> None:
    write, asked = FORMS[form]
    arrays, beside = scored()
    fields, body = write(arrays, {**beside, name: change(beside[name])})
    verdict, reason = asked().judge(200, fields, body)
    assert verdict is Verdict.WRONG
    assert name in reason


def test_p_values_and_verdicts_follow_from_the_scores_that_were_answered() -> None:
    """A score may miss the program's own by a tolerance and fall on the other side of one of the calibration."""
    expected = expected_of(BUNDLE, Operation.ANOMALY_SCORE, probe(BUNDLE, Method.ANOMALY_SCORE, count=1))
    assert BUNDLE.calibration is not None
    edge = BUNDLE.calibration.threshold(0.01)
    for score, verdict in ((edge, False), (np.nextafter(edge, np.float32(np.inf)), True)):
        is_anomaly = expected["is_anomaly"]
        assert callable(is_anomaly)
        assert is_anomaly({"scores": np.array([score], np.float32)}).tolist() == [verdict]


@pytest.mark.parametrize("wrong", [False, True])
def test_errors_of_reconstructions_are_their_own(wrong: bool) -> None:
    rows = probe(BUNDLE, Method.RECONSTRUCT, count=3, first=3)
    outputs = direct(BUNDLE, Method.RECONSTRUCT, rows)
    errors = ((rows - outputs) ** 2).mean(axis=1) * (1.001 if wrong else 1)
    body = orjson.dumps({"version": 1, "outputs": outputs, "errors": errors}, option=orjson.OPT_SERIALIZE_NUMPY)
    asked = asked_for("reconstruct", "application/json", questions_of(BUNDLE, counts=(3,)))
    assert asked.judge(200, {}, body)[0] is (Verdict.WRONG if wrong else Verdict.OK)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("wrong", [None, "score", "p_value", "is_anomaly", "a byte too many"])
def test_scores_by_the_open_inference_protocol_have_their_p_values_and_verdicts(
    wrong: str | None,
    binary: bool,
) -> None:
    arrays, beside = scored()
    tensors: dict[str, np.ndarray] = {
        "score": arrays["scores"] * np.float32(1.01 if wrong == "score" else 1),
        "p_value": np.array(beside["p_values"]) + (1e-7 if wrong == "p_value" else 0),
        "is_anomaly": np.array(beside["is_anomaly"]) ^ (wrong == "is_anomaly"),
    }
    outputs = [Output(name, values, binary) for name, values in tensors.items()]
    body, length = message_from({"model_name": BUNDLE.manifest.name, "model_version": "1"}, outputs)
    fields = {"inference-header-content-length": str(length)} if length else {}
    if wrong == "a byte too many":
        body += b" " if binary else b"{"
    rows = probe(BUNDLE, Method.ANOMALY_SCORE, count=3, first=3)
    expected = dict(expected_of(BUNDLE, Operation.ANOMALY_SCORE, rows))
    del expected["threshold"]
    asked = Question.post("/", b"", read=read_tensors, expected={1: expected}, fields={})
    assert asked.judge(200, fields, body)[0] is (Verdict.OK if wrong is None else Verdict.WRONG)


def test_tensors_are_asked_for_reconstructions_and_for_scores_each_in_both_forms() -> None:
    wanted = [set(asked.expected[1]) for asked in tensor_questions(BUNDLE, counts=(2,))]
    assert wanted == [{"outputs"}] * 2 + [{"scores", "p_values", "is_anomaly"}] * 2
