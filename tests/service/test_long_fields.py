"""Fields and queries longer than anybody needs: they are neither parsed on the event loop nor kept."""

import contextlib
import tracemalloc
from collections.abc import Callable

import pytest

from service.api.compression import preferred_coding
from service.api.media import Media, answer_media, is_stream
from service.errors import InvalidContent, NotAcceptable, ServiceError, UnsupportedMediaType
from tests.service.serving import ROWS, Served, assert_problem

MOST = 1024
JSON = {"inputs": ROWS}
POSSIBLE = (Media.JSON, Media.NPY)


def long(value: str, size: int = MOST + 1) -> str:
    """The value, made so long by a parameter that means nothing."""
    return f"{value};x=" + "x" * (size - len(value) - 3)


async def test_an_accept_field_longer_than_is_read_is_406_for_what_is_not_processed_must_not_be_ignored(
    served: Served,
) -> None:
    """RFC 9110, sections 5.4 and 12.5.1."""
    headers = {"Accept": f"{long('text/plain', MOST - 18)}, application/json"}
    assert (await served.post("tiny/encode", json=JSON, headers=headers)).status_code == 200
    headers["Accept"] += " "
    assert_problem(await served.post("tiny/encode", json=JSON, headers=headers), NotAcceptable)


async def test_a_content_type_longer_than_is_read_is_415_and_says_what_is(served: Served) -> None:
    """RFC 9110, sections 5.4 and 15.5.16."""
    for media, content in (
        ("application/json", b'{"inputs": [[0, 0, 0, 0]]}'),
        ("application/x-ndjson", b"[0, 0, 0, 0]\n"),
    ):
        headers = {"Content-Type": long(media, MOST)}
        assert (await served.post("tiny/encode", content=content, headers=headers)).status_code == 200
        headers = {"Content-Type": long(media)}
        response = await served.post("tiny/encode", content=content, headers=headers)
        assert_problem(response, UnsupportedMediaType)
        assert "application/json" in response.headers["accept"]


def test_an_accept_encoding_field_longer_than_is_read_means_identity_for_preferences_may_be_disregarded() -> None:
    """RFC 9110, section 12.1."""
    gzip = preferred_coding("gzip".ljust(MOST))
    assert gzip is not None
    assert gzip.name == "gzip"
    assert preferred_coding("gzip".ljust(MOST + 1)) is None


@pytest.mark.parametrize(
    "read",
    [
        preferred_coding,
        is_stream,
        lambda field: answer_media(f"*/*, {field}", possible=POSSIBLE),
    ],
    ids=["Accept-Encoding", "Content-Type", "Accept"],
)
def test_long_fields_are_not_kept(read: Callable[[str], object]) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(64):
            with contextlib.suppress(ServiceError):
                read(long(f"application/json;y={number}", 2**16))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2**18


async def test_a_query_of_more_parameters_than_any_operation_has_is_422(served: Served) -> None:
    for path in ("tiny/encode", "tiny/anomaly-score"):
        response = await served.post(f"{path}?{'a&' * 64}", content=b"", headers={"Content-Type": "application/x-npy"})
        problem = assert_problem(response, InvalidContent)
        assert problem["detail"] == "the query has more than 64 parameters"
