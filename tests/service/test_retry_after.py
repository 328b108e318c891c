"""When those who were refused are told to come again: not before it makes sense, and not all at once."""

from collections import Counter

import pytest

from service.api.problems import problem_document
from service.errors import InvalidContent, Overloaded, RateLimited
from tests.service.serving import ROWS, Served


@pytest.mark.parametrize(
    ("own", "draw", "seconds"),
    [(None, 0.0, 1), (None, 0.5, 2), (1, 0.499, 1), (1, 0.999, 2), (7, 0.0, 7), (7, 0.5, 11), (7, 0.999, 14)],
)
def test_it_is_between_the_time_that_is_needed_and_twice_that(own: int | None, draw: float, seconds: int) -> None:
    for error in (Overloaded("full", retry_after=own), RateLimited("too often", retry_after=own)):
        assert problem_document(error, draw=lambda: draw)["retry_after_s"] == seconds


def test_what_another_time_would_not_help_has_none() -> None:
    assert "retry_after_s" not in problem_document(InvalidContent("wrong", retry_after=3))


@pytest.mark.parametrize("path", ["/v1/models/tiny/encode", "/v2/models/tiny/infer"])
async def test_of_those_who_are_refused_together_not_all_are_told_the_same(served: Served, path: str) -> None:
    served.app.state.repository.get("tiny").batcher.queue.rows = 8192
    told: Counter[str] = Counter()
    tensor = {"name": "input", "shape": [2, 4], "datatype": "FP32", "data": ROWS}
    body = {"inputs": [tensor] if path.startswith("/v2") else ROWS}
    for _ in range(64):
        refused = await served.client.post(path, json=body)
        assert refused.status_code == 503
        told[refused.headers["retry-after"]] += 1
    assert set(told) == {"1", "2"}, "the passes that these rows need take less than a second"
