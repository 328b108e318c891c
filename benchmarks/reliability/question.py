"""Requests whose right answers are known, computed beforehand by the bundle's own program without the service."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson

from benchmarks.reliability.tally import Verdict
from bundle.golden import ATOL, RTOL

__all__ = ["JSON", "NDJSON", "NPY", "Arrays", "CutOff", "Expected", "Judged", "Question", "Read", "Values", "refusal"]

JSON, NPY, NDJSON = "application/json", "application/x-npy", "application/x-ndjson"
REMEMBERED = 16
REFUSALS = {429: Verdict.REFUSED, 503: Verdict.REFUSED, 504: Verdict.LATE}

Judged = tuple[Verdict, str]
Arrays = Mapping[str, np.ndarray]
Values = np.ndarray | Callable[[Arrays], np.ndarray]
"""What an array of an answer must be, or what it must be by the answer's other arrays. float32 may be missed by a
tolerance, all else is exact."""
Expected = Mapping[str, Values]
Read = Callable[[bytes, Mapping[str, str]], tuple[int, Arrays]]
"""From body and fields (names in lower case) to the version that answered and the arrays of the answer. Raises
ValueError, KeyError, TypeError or OSError for what is no such answer, and CutOff for the beginning of one."""


class CutOff(Exception):
    """An answer that says why it ends before its time; `arrays` hold the rows until then."""

    def __init__(self, reason: str, version: int, arrays: Arrays) -> None:
        super().__init__(reason)
        self.version, self.arrays = version, arrays


@dataclass(eq=False)
class Question:
    """A request, and what each version must answer: `expected`, by version, which float32 may miss by ATOL or `atol`,
    and by RTOL.

    `request` is all of its bytes. Answers that were found right are remembered byte for byte, which makes checking
    cheap where every answer to one request is the same.
    """

    name: str
    request: bytes
    read: Read
    expected: Mapping[int, Expected]
    atol: float = ATOL
    lowest: int = 0
    """The lowest version that may answer what is asked from now on."""
    _right: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)

    @classmethod
    def post(
        cls,
        path: str,
        body: bytes | Sequence[bytes],
        *,
        read: Read,
        expected: Mapping[int, Expected],
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

    def judge(self, status: int, fields: Mapping[str, str], body: bytes, *, lowest: int = 0) -> Judged:
        """What this answer is worth to a request that was sent when `lowest` was the lowest version left."""
        if status != 200:
            verdict, reason = refusal(status, fields, body)
            return verdict, f"{self.name}: {reason}" if verdict is Verdict.WRONG else reason
        if any(body == right and version >= lowest for version, right in self._right.get(len(body), ())):
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
        if version < lowest:
            return Verdict.WRONG, f"{self.name}: an answer by version {version}, which was gone before it was asked"
        for name, values in self.expected[version].items():
            if name not in arrays:
                return Verdict.WRONG, f"{self.name}: no {name} in version {version}'s answer"
            wanted = values(arrays) if callable(values) else values
            if cut and wanted.ndim:
                wanted = wanted[: len(arrays[name])]
            if arrays[name].shape != wanted.shape:
                return Verdict.WRONG, f"{self.name}: no {name} of shape {wanted.shape} in version {version}'s answer"
            if not _close(arrays[name], wanted, self.atol):
                return Verdict.WRONG, f"{self.name}: version {version} does not answer these {name}"
        if cut:
            return Verdict.LATE, f"{cut}, within an answer"
        remembered = self._right.setdefault(len(body), [])
        remembered[:] = [(version, body), *remembered[: REMEMBERED - 1]]
        return Verdict.OK, ""


def refusal(status: int, fields: Mapping[str, str], body: bytes) -> Judged:
    """Whether an answer that is not 200 is an honest refusal: it says why and when to come again, or why it is late."""
    if status not in REFUSALS:
        return Verdict.WRONG, f"status {status}: {body[:400]!r}"
    try:
        document = orjson.loads(body)
        reason = document.get("title") or document["error"]
    except (ValueError, KeyError, AttributeError):
        return Verdict.WRONG, f"status {status} without a reason: {body[:80]!r}"
    verdict = REFUSALS[status]
    if verdict is Verdict.REFUSED and not (fields.get("retry-after", "").isdecimal() and fields["retry-after"] != "0"):
        return Verdict.WRONG, f"status {status} without a whole number of seconds in Retry-After"
    return verdict, f"{status} {reason}"


def _close(actual: np.ndarray, wanted: np.ndarray, atol: float) -> bool:
    if wanted.dtype != np.float32:
        return bool((actual == wanted).all())
    return bool((np.abs(actual - wanted) <= atol + RTOL * np.abs(wanted)).all())
