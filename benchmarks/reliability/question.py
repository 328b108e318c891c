"""Requests whose right answers are known, computed beforehand by the bundle's own program without the service."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import orjson

from benchmarks.reliability.tally import Verdict
from bundle.calibration import Floats
from bundle.golden import ATOL, RTOL

__all__ = ["JSON", "NPY", "Judged", "Question", "Read", "refusal"]

JSON, NPY = "application/json", "application/x-npy"
REMEMBERED = 16
REFUSALS = {429, 503, 504}
NEEDS_RETRY_AFTER = {429, 503}

Judged = tuple[Verdict, str]
Read = Callable[[bytes, Mapping[str, str]], tuple[int, Mapping[str, np.ndarray]]]
"""From body and fields (names in lower case) to the version that answered and the arrays of the answer. Raises
ValueError, KeyError or TypeError for what is no such answer."""


@dataclass(eq=False)
class Question:
    """A request, and what each version must answer: `expected` is version -> name of the array -> values.

    `request` is all of its bytes. Answers that were found right are remembered byte for byte, which makes checking
    cheap where every answer to one request is the same.
    """

    name: str
    request: bytes
    read: Read
    expected: Mapping[int, Mapping[str, np.ndarray]]
    _right: dict[int, list[bytes]] = field(default_factory=dict)

    @classmethod
    def post(
        cls,
        path: str,
        body: bytes,
        *,
        read: Read,
        expected: Mapping[int, Mapping[str, np.ndarray]],
        fields: Mapping[str, str],
    ) -> "Question":
        """A POST of `body`. The request's id is its path, so that equal answers have equal bytes."""
        lines = [f"POST {path} HTTP/1.1", "Host: diabolo", f"Content-Length: {len(body)}", "X-Request-ID: reliability"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return cls(path, "\r\n".join([*lines, "", ""]).encode() + body, read, expected)

    def judge(self, status: int, fields: Mapping[str, str], body: bytes) -> Judged:
        """What this answer is worth."""
        if status != 200:
            verdict, reason = refusal(status, fields, body)
            return verdict, reason if verdict is Verdict.REFUSED else f"{self.name}: {reason}"
        if any(body == right for right in self._right.get(len(body), ())):
            return Verdict.OK, ""
        try:
            version, arrays = self.read(body, fields)
        except (ValueError, KeyError, TypeError) as error:
            return Verdict.WRONG, f"{self.name}: an answer that cannot be read ({error!r:.80})"
        if version not in self.expected:
            return Verdict.WRONG, f"{self.name}: an answer by version {version}, which there is not"
        for name, values in self.expected[version].items():
            if name not in arrays or arrays[name].shape != values.shape:
                return Verdict.WRONG, f"{self.name}: no {name} of shape {values.shape} in version {version}'s answer"
            if not _close(arrays[name], values):
                return Verdict.WRONG, f"{self.name}: version {version} does not answer these {name}"
        remembered = self._right.setdefault(len(body), [])
        remembered[:] = [body, *remembered[: REMEMBERED - 1]]
        return Verdict.OK, ""


def refusal(status: int, fields: Mapping[str, str], body: bytes) -> Judged:
    """Whether an answer that is not 200 is an honest refusal: it says why, and when to come again."""
    if status not in REFUSALS:
        return Verdict.WRONG, f"status {status}: {body[:400]!r}"
    try:
        document = orjson.loads(body)
        reason = document.get("title") or document["error"]
    except (ValueError, KeyError, AttributeError):
        return Verdict.WRONG, f"status {status} without a reason: {body[:80]!r}"
    if status in NEEDS_RETRY_AFTER and not (fields.get("retry-after", "").isdecimal() and fields["retry-after"] != "0"):
        return Verdict.WRONG, f"status {status} without a whole number of seconds in Retry-After"
    return Verdict.REFUSED, f"{status} {reason}"


def _close(actual: np.ndarray, wanted: Floats) -> bool:
    if wanted.dtype.kind != "f":
        return bool((actual == wanted).all())
    return bool((np.abs(actual - wanted) <= ATOL + RTOL * np.abs(wanted)).all())
