"""What the reliability benchmark expects of every question is what the service answers: it calls nothing wrong that is
right."""

from pathlib import Path

import httpx
import pytest

from benchmarks.reliability.bundles import publish, shipped
from benchmarks.reliability.lines import line_questions
from benchmarks.reliability.paths import path_questions
from benchmarks.reliability.pictures import picture_questions
from benchmarks.reliability.question import Question
from benchmarks.reliability.questions import questions_of
from benchmarks.reliability.tally import Verdict
from benchmarks.reliability.tensors import tensor_questions
from service.app import create_app
from service.settings import Settings


async def ask(client: httpx.AsyncClient, question: Question) -> tuple[Verdict, str]:
    """The verdict on what is answered to the request as it would be sent."""
    head, _, body = question.request.partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    fields = dict(field.split(": ", 1) for field in rest)
    if fields.pop("Transfer-Encoding", None):
        chunks = []
        while body:
            size, _, body = body.partition(b"\r\n")
            chunks.append(body[: int(size, 16)])
            body = body[int(size, 16) + 2 :]
        body = b"".join(chunks)
    answer = await client.post(line.split()[1], content=body, headers=fields)
    return question.judge(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content)


@pytest.mark.parametrize("name", ["fashion-vae", "fashion-denoising"])
async def test_the_service_answers_every_question_rightly(name: str, tmp_path: Path) -> None:
    bundle = publish(shipped(name), tmp_path)
    kinds = (questions_of, tensor_questions, line_questions, picture_questions, path_questions)
    questions = [question for kind in kinds for question in kind(bundle)]
    app = create_app(Settings(models_dir=tmp_path, poll_seconds=60))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        await app.state.repository.refresh()
        found = [await ask(client, question) for question in questions]
    assert len(found) > 50
    assert found == [(Verdict.OK, "")] * len(found)
