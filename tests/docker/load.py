"""Clients that ask through the published port without pause, check every answer, and count how each request ended."""

import contextlib
import io
import itertools
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
import numpy as np

__all__ = ["Load", "Question", "questions", "under_load"]

CLIENTS = 6
REFUSED_SECONDS = 0.2
PAUSE_SECONDS = 0.02  # between two requests of a client, so that two cores are left to what is tested
Check = Callable[[httpx.Response], bool]


class Question(NamedTuple):
    """A request, and whether an answer is the right one."""

    path: str
    body: bytes
    headers: dict[str, str]
    right: Check


@dataclass
class Load:
    """How many requests ended how. A refusal says so itself, with a problem document. Connections that ended without an
    answer are `cut`, by the ids of their requests: Docker takes connections for a container that does not listen and
    cuts them, so that only the proxy's log tells which of them it took, and are lost."""

    answered: int = 0
    refused: int = 0
    unreached: int = 0
    cut: dict[str, str] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0
    versions: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        unreached = self.unreached + len(self.cut)
        return (
            f"{self.answered} answered, {self.refused} refused, {unreached} found nobody, "
            f"{self.lost.total()} lost, {self.wrong.total()} wrong; slowest {self.slowest_s:.1f} s"
        )

    def settle(self, taken: Collection[str]) -> None:
        """Of the requests that were cut, those that the proxy has taken are lost."""
        self.lost.update(self.cut.pop(identity) for identity in self.cut.keys() & set(taken))

    @property
    def faultless(self) -> bool:
        """True when something was answered, nothing lost and nothing wrong."""
        return bool(self.answered) and not self.lost and not self.wrong

    @property
    def unnoticed(self) -> bool:
        """True when every request was answered, rightly: clients did not hear of anything."""
        return self.faultless and not self.refused and not self.unreached and not self.cut


@contextlib.contextmanager
def under_load(address: str, asked: list[Question], *, keep_alive: bool = True) -> Iterator[Load]:
    """The block runs while clients ask; afterwards every request has ended and is counted. Without `keep_alive` every
    request has a connection of its own: nobody can tell whether one that was idle has just been closed."""
    load, lock, stop = Load(), threading.Lock(), threading.Event()
    limits = httpx.Limits(max_keepalive_connections=None if keep_alive else 0)

    def client(number: int) -> None:
        with httpx.Client(base_url=address, timeout=60, limits=limits) as http:
            for turn in itertools.count(number):
                question = asked[turn % len(asked)]
                begun = time.monotonic()
                count = _ask(http, question)
                with lock:
                    before = load.answered
                    count(load)
                    pause = PAUSE_SECONDS if load.answered > before else REFUSED_SECONDS
                    load.slowest_s = max(load.slowest_s, time.monotonic() - begun)
                if stop.wait(pause):
                    return

    threads = [threading.Thread(target=client, args=[number], daemon=True) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _ask(http: httpx.Client, question: Question) -> Callable[[Load], None]:
    """What to count for one request."""
    identity = uuid.uuid4().hex
    try:
        headers = question.headers | {"X-Request-ID": identity}
        answer = http.post(question.path, content=question.body, headers=headers)
    except httpx.ConnectError:
        return lambda load: setattr(load, "unreached", load.unreached + 1)
    except httpx.HTTPError as error:
        reason = f"{type(error).__name__}: {error}"
        return lambda load: load.cut.update({identity: reason})
    if answer.status_code == 503 and "request_id" in answer.text and "retry-after" in answer.headers:
        return lambda load: setattr(load, "refused", load.refused + 1)
    if answer.status_code in (502, 504):
        return lambda load: load.lost.update([f"{answer.status_code}: {question.path}"])
    if answer.status_code != 200 or not question.right(answer):
        return lambda load: load.wrong.update([f"{answer.status_code} {question.path}: {answer.text[:200]}"])

    def answered(load: Load) -> None:
        load.answered += 1
        if "json" in answer.headers["content-type"] and "version" in (document := answer.json()):
            load.versions.update([document["version"]])

    return answered


def questions(address: str, name: str, *, key: str = "", exact: bool = True) -> list[Question]:
    """A row of the bundle as JSON, as `.npy` and as a picture, to several operations. The right answer has the numbers
    that the service says now; if it need not be `exact`, their shape."""
    with httpx.Client(base_url=address, timeout=60, headers={"X-API-Key": key}) as http:
        return _questions(http, f"/v1/models/{name}", key=key, exact=exact)


def _questions(http: httpx.Client, path: str, *, key: str, exact: bool) -> list[Question]:
    example = http.get(f"{path}/examples/4").raise_for_status().json()
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(example["inputs"], np.float32))
    bodies = {
        "application/json": json.dumps({"inputs": example["inputs"]}).encode(),
        "application/x-npy": buffer.getvalue(),
    }
    asked = []
    for operation, field_name in (("reconstruct", "outputs"), ("encode", "latents"), ("anomaly-score", "scores")):
        for kind, body in bodies.items():
            headers = {"Content-Type": kind, "Accept": "application/json", "X-API-Key": key}
            expected = http.post(f"{path}/{operation}", content=body, headers=headers).raise_for_status().json()
            right = _numbers(field_name, expected[field_name], exact=exact)
            asked.append(Question(f"{path}/{operation}", body, headers, right))
    picture = http.get(f"{path}/examples/4", headers={"Accept": "image/png"}).raise_for_status().content
    headers = {"Content-Type": "image/png", "Accept": "image/png", "X-API-Key": key}
    return [*asked, Question(f"{path}/reconstruct", picture, headers, _is_picture)]


def _numbers(field_name: str, expected: Any, *, exact: bool) -> Check:
    wanted = np.asarray(expected)

    def right(answer: httpx.Response) -> bool:
        found = np.asarray(answer.json()[field_name])
        return found.shape == wanted.shape and (not exact or np.allclose(found, wanted, rtol=1e-4, atol=1e-5))

    return right


def _is_picture(answer: httpx.Response) -> bool:
    return answer.content.startswith(b"\x89PNG") and answer.content.endswith(b"IEND\xaeB`\x82")
