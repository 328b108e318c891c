"""Operations on a stream: a row a line in, its answer a line out, while the body is still coming.

Memory does not grow with the stream: what is held is a piece of the body, the batches in flight and their answers.
Nothing is read while those wait for their forward passes, or for a client that does not read them.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import orjson
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from bundle.calibration import Floats
from service.api.access_log import SERVED
from service.api.adapters import Adapter
from service.api.answers import Answer, constant_fields, row_members
from service.api.codings import content_coding, unpacked
from service.api.deadlines import exceeded, timeout_of
from service.api.limits import LARGE_ANSWER_NUMBERS, LARGE_BODY_BYTES
from service.api.media import Media, answer_media
from service.api.posted import Posted
from service.api.problems import instance_of, problem_document
from service.api.request_id import request_id_of
from service.api.requests import Call, parameters_from
from service.codecs.ndjson import Line, LineSplitter, rows_from_lines
from service.codecs.rows import RowSpec
from service.engine.loaded import LoadedModel
from service.engine.tally import TRIAL
from service.engine.timeline import TIMELINE
from service.errors import Draining, InternalError, InvalidContent, OutOfMemory, Overloaded, ServiceError
from service.operations import range_warning
from service.settings import Settings

__all__ = ["stream"]

T = TypeVar("T")
BATCHES_IN_FLIGHT = 2
Begun = asyncio.Queue[asyncio.Task[bytes] | None]
logger = logging.getLogger("diabolo.api")


async def stream(
    adapter: Adapter[Any], request: Posted, model: LoadedModel, settings: Settings, *, stopping: asyncio.Event
) -> Response:
    """The response to a body of lines. What concerns the request as a whole is refused before it begins: the parameters
    are tried on a row of the bundle's own probe. Raises what the operation raises, and Draining once `stopping`.

    The time that a request gives itself is for the whole stream, which has no end in time otherwise.
    """
    answer_media(request.field(b"accept"), possible=(Media.NDJSON,))
    coding = content_coding(request)
    if stopping.is_set():
        raise Draining("the service is shutting down")
    timeout_ms = timeout_of(request, otherwise=0)
    ends_at = asyncio.get_running_loop().time() + timeout_ms / 1000 if timeout_ms else None
    parameters = parameters_from(request.query, adapter.request)
    ((tensor, spec),) = adapter.fields(model.manifest, 1, parameters).items()
    row = {"inputs": model.golden.inputs, "latents": model.golden.latents}[tensor][:1]
    trial = TRIAL.set(True)
    try:
        tried = await adapter.carry_out(model, Call(parameters, {tensor: row}), 1)
    finally:
        TRIAL.reset(trial)
    constant = [warning for warning in tried.warnings if warning != range_warning(model, row)]
    answers = RowStream(
        adapter=adapter,
        model=model,
        parameters=parameters,
        tensor=tensor,
        spec=spec._replace(pointer="#"),
        settings=settings,
        stopping=stopping,
        timeout_ms=timeout_ms,
        ends_at=ends_at,
        scope=request.scope,
        instance=instance_of(request.scope),
        request_id=request_id_of(request.scope),
    ).answers(unpacked(request.pieces(), coding))
    headers = {
        "Cache-Control": "no-store",
        "Vary": "Accept",
        **constant_fields(tried, model=model, decimals=parameters.decimals),
    }
    if constant:
        headers["Diabolo-Warnings"] = " / ".join(constant)
    return _Streamed(answers, headers=headers, media_type=Media.NDJSON)


class _Streamed(StreamingResponse):
    """Leaves `receive` to the stream: Starlette's own listens there for the client's leaving, and takes the body."""

    body_iterator: AsyncGenerator[bytes, None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's signature
        async with contextlib.aclosing(self.body_iterator):
            # The body is asked for before the answer begins: a client may be waiting for "100 Continue".
            await anext(self.body_iterator)
            await self.stream_response(send)


@dataclass(frozen=True, kw_only=True)
class RowStream:
    """One stream of rows through one operation. `tensor` is the field of the request that the rows stand for."""

    adapter: Adapter[Any]
    model: LoadedModel
    parameters: Any
    tensor: str
    spec: RowSpec
    settings: Settings
    stopping: asyncio.Event
    timeout_ms: int
    ends_at: float | None
    scope: Scope
    instance: str
    request_id: str

    async def answers(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The answers to whole batches, in order, and the line that ends them: `done`, or a problem without index.
        Before all of these something empty, once the first of the pieces is waited for."""
        begun: Begun = asyncio.Queue()
        places = asyncio.Semaphore(BATCHES_IN_FLIGHT)
        reader = asyncio.create_task(self._read(pieces, begun, places))
        reader.add_done_callback(lambda _: begun.put_nowait(None))
        stop = asyncio.create_task(self.stopping.wait())
        stop.add_done_callback(lambda _: reader.cancel())
        try:
            await asyncio.sleep(0)
            yield b""
            while (batch := await self._in_time(begun.get())) is not None:
                yield await self._in_time(batch)
                places.release()
            yield self._end(reader)
        except ServiceError as problem:
            yield self._problem_line(problem)
        except Exception as bug:
            yield self._problem_line(self._logged(bug))
        finally:
            unfinished = [reader, stop, *(batch for batch in _emptied(begun) if batch is not None)]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _in_time(self, awaited: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(self.ends_at):
                return await awaited
        except TimeoutError:
            raise exceeded(self.timeout_ms) from None

    async def _read(
        self,
        pieces: AsyncIterator[bytes],
        begun: "asyncio.Queue[asyncio.Task[bytes] | None]",
        places: asyncio.Semaphore,
    ) -> int:
        """How many lines there were, once each of them belongs to a batch that has begun."""
        count = 0
        self.scope[SERVED] = self.model, self.adapter.operation, count
        async for lines in self._batches(pieces):
            await places.acquire()
            begun.put_nowait(asyncio.create_task(self._answer(lines, first=count)))
            count += len(lines)
            self.scope[SERVED] = self.model, self.adapter.operation, count
        return count

    async def _batches(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[Sequence[Line]]:
        """What has come, in lines of no more than a forward pass takes; never waits for more."""
        splitter, most = LineSplitter(self.settings.max_line_bytes), self.settings.max_batch_rows
        async for piece in pieces:
            lines = splitter.feed(piece)
            for start in range(0, len(lines), most):
                yield lines[start : start + most]
        if last := splitter.end():
            yield last

    def _end(self, reader: "asyncio.Task[int]") -> bytes:
        """The last line, by how the reading ended."""
        if reader.cancelled():
            raise Draining("the service is shutting down: send what comes after the last index again")
        fault = reader.exception()
        if isinstance(fault, ClientDisconnect):
            logger.info("request %s: its client went away", self.request_id)
            return b""
        if fault is not None:
            raise fault
        return orjson.dumps({"done": True, "rows": reader.result()}) + b"\n"

    async def _answer(self, lines: Sequence[Line], *, first: int) -> bytes:
        """The lines that answer these lines, the first of which has the index `first`."""
        read = partial(rows_from_lines, lines, self.spec, max_bytes=self.settings.max_line_bytes)
        large = sum(len(line) for line in lines if line) > LARGE_BODY_BYTES
        stage = TIMELINE.get().begin("decode")
        rows, problems = await asyncio.to_thread(read) if large else read()
        self.model.tally.decode_seconds.observe(stage.ends())
        results = iter(await self._results(rows) if len(rows) else ())
        found = (problems.get(place) or next(results) for place in range(len(lines)))
        return b"".join(
            b'{"index":%d,%b}\n' % (index, result)
            if isinstance(result, bytes)
            else self._problem_line(result, index=index)
            for index, result in enumerate(found, start=first)
        )

    async def _results(self, rows: Floats) -> list[bytes | ServiceError]:
        """What is to be said about each row. Waits where a request would be refused for want of room."""
        while True:
            await self.model.batcher.room(rows)
            try:
                answer = await self.adapter.carry_out(self.model, Call(self.parameters, {self.tensor: rows}), len(rows))
            except Overloaded:
                continue
            except InvalidContent as problem:
                # Finite rows whose results are not: halving finds them.
                if len(rows) == 1:
                    return [problem]
                half = len(rows) // 2
                return await self._results(rows[:half]) + await self._results(rows[half:])
            except (InternalError, OutOfMemory) as problem:
                return [problem] * len(rows)
            write = partial(self._members, answer, rows)
            stage = TIMELINE.get().begin("encode")
            members = await asyncio.to_thread(write) if answer.size > LARGE_ANSWER_NUMBERS else write()
            self.model.tally.encode_seconds.observe(stage.ends())
            return members

    def _members(self, answer: Answer, rows: Floats) -> list[bytes | ServiceError]:
        members = row_members(answer, decimals=self.parameters.decimals)
        if self.tensor == "inputs" and range_warning(self.model, rows) is not None:
            for place in range(len(rows)):
                if (warning := range_warning(self.model, rows[place : place + 1])) is not None:
                    members[place] += b',"warnings":' + orjson.dumps([warning])
        return list(members)

    def _problem_line(self, problem: ServiceError, **index: int) -> bytes:
        document = problem_document(problem, instance=self.instance, request_id=self.request_id)
        return orjson.dumps({**index, "problem": document}) + b"\n"

    def _logged(self, bug: Exception) -> InternalError:
        logger.error("request %s failed", self.request_id, exc_info=bug)
        return InternalError("the service failed; its log has the cause under this request_id")


def _emptied(queue: Begun) -> Iterator[asyncio.Task[bytes] | None]:
    while not queue.empty():
        yield queue.get_nowait()
