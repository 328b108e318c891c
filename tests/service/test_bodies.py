"""What is held of bodies: bounded for all together, given back whatever happens, and no bar to small ones."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message

from service import errors
from service.api.bodies import SMALL_BYTES, Bodies
from service.api.limits import LARGE_BODY_BYTES
from service.api.posted import Posted
from service.engine.deadline import DEADLINE
from service.errors import BodyTooLarge, MalformedBody, Overloaded, RequestTooSlow
from tests.service.programs import Program
from tests.service.serving import ROWS, Served, assert_problem, serving

MOST = 4 * SMALL_BYTES
BODY = json.dumps({"inputs": ROWS}).encode()


def padded(size: int) -> bytes:
    """A right body of so many bytes."""
    return BODY + b" " * (size - len(BODY))


class Sender:
    """A client: its body in pieces, each sent when the test says so."""

    def __init__(self, *, announced: int | None = None, coding: str | None = None) -> None:
        self._pieces: asyncio.Queue[Message] = asyncio.Queue()
        fields = [(b"content-length", b"%d" % announced)] if announced is not None else []
        fields += [(b"content-encoding", coding.encode())] if coding else []
        self.request = Posted({"type": "http", "headers": fields}, self._pieces.get)

    def send(self, piece: bytes, *, more: bool = True) -> None:
        """It is there."""
        self._pieces.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def leave(self) -> None:
        """The client has gone."""
        self._pieces.put_nowait({"type": "http.disconnect"})


def make_bodies(**limits: Any) -> Bodies:
    settings = {"max_bytes": MOST, "max_held_bytes": MOST, "seconds": 30, **limits}
    return Bodies(**settings, clock=lambda: 0.0)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_small_body_does_not_count_and_is_taken_whatever_is_held() -> None:
    bodies = make_bodies()
    bodies.held_bytes = MOST
    sender = Sender(announced=SMALL_BYTES)
    sender.send(b"x" * SMALL_BYTES, more=False)
    assert len(await bodies.read(sender.request)) == SMALL_BYTES
    halves = Sender()
    halves.send(b"x" * 10)
    halves.send(b"x" * 10, more=False)
    assert len(await bodies.read(halves.request)) == 20
    assert bodies.held_bytes == MOST


async def test_what_is_held_grows_with_what_has_come_and_is_given_back() -> None:
    bodies, sender = make_bodies(), Sender(announced=3 * SMALL_BYTES)
    reading = asyncio.create_task(bodies.read(sender.request))
    for count in range(3):
        assert bodies.held_bytes == max(0, count - 1) * SMALL_BYTES
        sender.send(b"x" * SMALL_BYTES, more=count < 2)
        await turns()
    assert len(await reading) == 3 * SMALL_BYTES
    assert bodies.held_bytes == 2 * SMALL_BYTES
    bodies.release(sender.request)
    bodies.release(sender.request)
    assert bodies.held_bytes == 0


async def test_what_would_be_too_much_is_refused_before_any_of_it_is_read() -> None:
    bodies = make_bodies()
    bodies.held_bytes = 2 * SMALL_BYTES
    sender = Sender(announced=2 * SMALL_BYTES + 1)
    with pytest.raises(
        Overloaded, match=r"^131072 bytes of large bodies and answers are held and at most 262144 may$"
    ) as refusal:
        await bodies.read(sender.request)
    assert refusal.value.retry_after == 1
    assert bodies.refused == 1


@pytest.mark.parametrize(
    ("size", "left", "waits", "refused"),
    [
        (LARGE_BODY_BYTES + 1, 4.0, 2.1, True),
        (LARGE_BODY_BYTES + 1, 4.0, 2.0, False),
        (LARGE_BODY_BYTES + 1, None, 2.1, False),
        (LARGE_BODY_BYTES, 4.0, 2.1, False),
    ],
    ids=["more than half of its time", "half of it", "it has no deadline", "it will be read at once"],
)
async def test_a_large_body_that_would_wait_for_most_of_its_time_is_refused_before_any_of_it_is_read(
    size: int, left: float | None, waits: float, refused: bool
) -> None:
    bodies = make_bodies(max_bytes=2 * size, max_held_bytes=2 * size, expected_seconds=lambda: waits)
    sender = Sender(announced=size)
    token = DEADLINE.set(left)
    reading = asyncio.create_task(bodies.read(sender.request))
    DEADLINE.reset(token)
    await turns()
    if refused:
        with pytest.raises(
            Overloaded, match=r"read 2\.1 s after they have come, and there are 4\.0 s left$"
        ) as refusal:
            await reading
        assert refusal.value.retry_after == 3
    else:
        sender.send(b"x" * size, more=False)
        assert len(await reading) == size
    assert bodies.late == refused


@pytest.mark.parametrize("coding", [None, "gzip"])
async def test_what_announces_nothing_is_refused_as_soon_as_it_is_too_much(coding: str | None) -> None:
    bodies = make_bodies()
    first, second = Sender(), Sender(coding=coding)
    content = b"x" * (MOST - 1)
    readers = [asyncio.create_task(bodies.read(sender.request)) for sender in (first, second)]
    first.send(content)
    second.send(gzip.compress(content) if coding else content, more=False)
    with pytest.raises(Overloaded):
        await readers[1]
    assert second.request.held_bytes <= MOST - first.request.held_bytes
    bodies.release(second.request)
    first.send(b"x", more=False)
    assert len(await readers[0]) == MOST, "who is alone has all there is"


async def test_a_body_that_is_too_large_is_so_however_it_comes() -> None:
    for announced, coding in ((MOST + 1, None), (10**30, None), (None, None), (None, "gzip")):
        bodies, sender = make_bodies(), Sender(announced=announced, coding=coding)
        content = b"x" * (MOST + 1)
        sender.send(gzip.compress(content) if coding else content, more=False)
        with pytest.raises(BodyTooLarge):
            await bodies.read(sender.request)


@pytest.mark.parametrize("pieces", [[b""], [b"x", b""], [b"x", b"x", b"x"]])
async def test_a_body_has_so_many_seconds_however_it_drips(pieces: list[bytes]) -> None:
    now = 0.0
    bodies = Bodies(max_bytes=MOST, max_held_bytes=MOST, seconds=30, clock=lambda: now)
    sender = Sender()
    reading = asyncio.create_task(bodies.read(sender.request))
    for piece in pieces:
        sender.send(piece)
        await turns()
        now += 10
    now = 30.0
    sender.send(b"")
    await turns()
    assert not reading.done()
    now = 30.1
    sender.send(b"")
    with pytest.raises(RequestTooSlow):
        await reading
    assert bodies.too_slow == 1


LargeEnd = pytest.mark.parametrize("end", ["answered", "refused", "malformed", "failed"])


@pytest.fixture
async def served(models: Path) -> AsyncIterator[Served]:
    """The app, which holds little."""
    async with serving(models, Program(), max_body_bytes=MOST, max_bodies_bytes=MOST) as app:
        yield app


@LargeEnd
@pytest.mark.parametrize("prefix", ["", "/prefix"], ids=["the short way", "the usual way"])
async def test_nothing_is_held_once_a_request_has_ended(
    served: Served, end: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: Bodies = served.app.state.bodies
    content = {"refused": b'{"inputs": 1}', "malformed": b"{"}.get(end, BODY)
    if end == "failed":

        def fails(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr("service.api.operations.render", fails)
    transport = httpx.ASGITransport(served.app, root_path=prefix, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://diabolo{prefix}") as client:
        answer = await client.post("/v1/models/tiny/encode", content=content.ljust(3 * SMALL_BYTES))
    assert answer.status_code == {"answered": 200, "refused": 422, "malformed": 400, "failed": 500}[end]
    assert bodies.held_bytes == 0


async def test_a_large_body_is_held_until_its_request_is_answered_and_keeps_out_large_ones_alone(
    served: Served,
) -> None:
    bodies: Bodies = served.app.state.bodies
    served.program.hold()
    first = asyncio.create_task(served.post("tiny/encode", content=padded(3 * SMALL_BYTES)))
    await served.program.entered()
    assert bodies.held_bytes == 2 * SMALL_BYTES
    large = await served.post("tiny/encode", content=padded(3 * SMALL_BYTES))
    assert_problem(large, errors.Overloaded)
    for path in ("models/tiny/infer", "repository/index"):
        refused = await served.client.post(f"/v2/{path}", content=padded(3 * SMALL_BYTES))
        assert (refused.status_code, list(refused.json())) == (503, ["error"])
        assert refused.headers["retry-after"] in {"1", "2"}
    small = asyncio.create_task(served.post("tiny/encode", content=BODY))
    while served.repository.get("tiny").batcher.pending_rows < 2 * len(ROWS):
        await asyncio.sleep(0)
    served.program.release()
    assert (await first).status_code == (await small).status_code == 200
    assert bodies.held_bytes == 0
    assert (await served.post("tiny/encode", content=padded(3 * SMALL_BYTES))).status_code == 200


async def test_a_damaged_or_broken_off_body_leaves_what_was_held_to_be_given_back() -> None:
    bodies, damaged = make_bodies(), Sender(coding="gzip")
    damaged.send(gzip.compress(b"x" * 2 * SMALL_BYTES)[:-8], more=False)
    with pytest.raises(MalformedBody):
        await bodies.read(damaged.request)
    bodies.release(damaged.request)
    assert bodies.held_bytes == 0
