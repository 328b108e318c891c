"""Requests whose right answers are known, computed beforehand by the bundle's own program without the service."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson

from benchmarks.reliability.tally import Verdict
from bundle.calibration import Floats
from bundle.golden import ATOL, RTOL

__all__ = ["JSON", "NDJSON", "NPY", "CutOff", "Judged", "Question", "Read", "refusal"]

JSON, NPY, NDJSON = "application/json", "application/x-npy", "application/x-ndjson"
REMEMBERED = 16
REFUSALS = {429, 503, 504}
NEEDS_RETRY_AFTER = {429, 503}

Judged = tuple[Verdict, str]
Read = Callable[[bytes, Mapping[str, str]], tuple[int, Mapping[str, np.ndarray]]]
"""From body and fields (names in lower case) to the version that answered and the arrays of the answer. Raises
ValueError, KeyError, TypeError or OSError for what is no such answer, and CutOff for the beginning of one."""


class CutOff(Exception):
    """An answer that says why it ends before its time; `arrays` hold the rows until then."""

    def __init__(self, reason: str, version: int, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(reason)
        self.version, self.arrays = version, arrays


@dataclass(eq=False)
class Question:
    """A request, and what each version must answer: `expected` is version -> name of the array -> values, which an
    answer may miss by ATOL or `atol`, and by RTOL.

    `request` is all of its bytes. Answers that were found right are remembered byte for byte, which makes checking
    cheap where every answer to one request is the same.
    """

    name: str
    request: bytes
    read: Read
    expected: Mapping[int, Mapping[str, np.ndarray]]
    atol: float = ATOL
    _right: dict[int, list[bytes]] = field(default_factory=dict)

    @classmethod
    def post(
        cls,
        path: str,
        body: bytes | Sequence[bytes],
        *,
        read: Read,
        expected: Mapping[int, Mapping[str, np.ndarray]],
        fields: Mapping[str, str],
        atol: float = ATOL,
    ) -> "Question":
        """A POST of `body`, in chunks where it is given in pieces. The request's id is always the same, so that equal
        answers have equal bytes."""
        if isinstance(body, bytes):
            framing = f"Content-Length: {len(body)}"
        else:
            framing = "Transfer-Encoding: chunked"
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*body, b""])
        lines = [f"POST {path} HTTP/1.1", "Host: diabolo", framing, "X-Request-ID: reliability"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return cls(path, "\r\n".join([*lines, "", ""]).encode() + body, read, expected, atol)

    def judge(self, status: int, fields: Mapping[str, str], body: bytes) -> Judged:
        """What this answer is worth."""
        if status != 200:
            verdict, reason = refusal(status, fields, body)
            return verdict, reason if verdict is Verdict.REFUSED else f"{self.name}: {reason}"
        if any(body == right for right in self._right.get(len(body), ())):
            return Verdict.OK, ""
        cut = ""
        try:
            version, arrays = self.read(body, fields)
        except CutOff as beginning:
            version, arrays, cut = beginning.version, beginning.arrays, str(beginning)
        except (ValueError, KeyError, TypeError, OSError) as error:
            return Verdict.WRONG, f"{self.name}: an answer that cannot be read ({error!r:.80})"
        if version not in self.expected:
            return Verdict.WRONG, f"{self.name}: an answer by version {version}, which there is not"
        for name, values in self.expected[version].items():
            wanted = values[: len(arrays[name])] if cut and name in arrays else values
            if name not in arrays or arrays[name].shape != wanted.shape:
                return Verdict.WRONG, f"{self.name}: no {name} of shape {values.shape} in version {version}'s answer"
            if not _close(arrays[name], wanted, self.atol):
                return Verdict.WRONG, f"{self.name}: version {version} does not answer these {name}"
        if cut:
            return Verdict.REFUSED, f"{cut}, within an answer"
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


def _close(actual: np.ndarray, wanted: Floats, atol: float) -> bool:
    if wanted.dtype.kind != "f":
        return bool((actual == wanted).all())
    return bool((np.abs(actual - wanted) <= atol + RTOL * np.abs(wanted)).all())
