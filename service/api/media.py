"""Media types: what a body is, and what an answer should be."""

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_options_header

from service.errors import NotAcceptable, UnsupportedMediaType

__all__ = ["Media", "answer_media", "body_media", "is_stream"]


class Media(StrEnum):
    """The media types that bodies come in."""

    JSON = "application/json"
    NPY = "application/x-npy"
    NDJSON = "application/x-ndjson"
    PNG = "image/png"
    JPEG = "image/jpeg"


ALIASES = {
    "application/x-numpy": Media.NPY,
    "image/jpg": Media.JPEG,
    "text/json": Media.JSON,
    "application/ndjson": Media.NDJSON,
    "application/jsonl": Media.NDJSON,
}
# What clients send when nobody told them what the body is: curl says the second of any `--data`.
UNTOLD = {"", "application/x-www-form-urlencoded", "application/octet-stream"}
SIGNATURES = {b"\x89PNG\r\n\x1a\n": Media.PNG, b"\xff\xd8\xff": Media.JPEG, b"\x93NUMPY": Media.NPY}
# Of a field: more than anybody needs, and little enough to be parsed, and kept, on the event loop.
MOST_BYTES = 1024


def body_media(content_type: str | None, body: bytes, *, readable: Sequence[Media]) -> Media:
    """What the body is: by its `Content-Type`, or by its first bytes where that says nothing.

    Raises UnsupportedMediaType when that is not among those that can be read, of which JSON is always one.
    """
    if content_type == "application/json":
        return Media.JSON
    if content_type is not None and len(content_type) > MOST_BYTES:
        raise UnsupportedMediaType(
            f"the Content-Type has more than the {MOST_BYTES} bytes that are read",
            headers={"Accept": ", ".join(readable)},
        )
    declared = parse_options_header(content_type)[0].lower()
    media = _media(declared)
    if declared in UNTOLD:
        media = next((media for signature, media in SIGNATURES.items() if body.startswith(signature)), Media.JSON)
    if media is None or media not in readable:
        raise UnsupportedMediaType(
            f"this operation reads {', '.join(readable)} here, not {(media or declared)[:80]}",
            headers={"Accept": ", ".join(readable)},
        )
    return media


def is_stream(content_type: str | None) -> bool:
    """True where the body comes line by line and is answered so."""
    if content_type is None or content_type == "application/json" or len(content_type) > MOST_BYTES:
        return False
    return _is_stream(content_type)


@lru_cache(maxsize=256)
def _is_stream(content_type: str) -> bool:
    return _media(content_type.partition(";")[0].strip().lower()) is Media.NDJSON


def _media(name: str) -> Media | None:
    return ALIASES.get(name) or Media._value2member_map_.get(name)  # type: ignore[return-value]


def answer_media(accept: str | None, *, possible: Sequence[Media]) -> Media:
    """The type among `possible` that the `Accept` field likes best; the first where it has no preference.

    Raises NotAcceptable when it rules out all of them.
    """
    if not accept or accept == "*/*":
        return possible[0]
    if len(accept) > MOST_BYTES:
        raise NotAcceptable(f"the Accept field has more than the {MOST_BYTES} bytes that are read")
    return _best(accept, tuple(possible))


@lru_cache(maxsize=256)
def _best(accept: str, possible: tuple[Media, ...]) -> Media:
    best = parse_accept_header(accept, MIMEAccept).best_match(possible)
    if best is None:
        raise NotAcceptable(f"this answer can be given as {', '.join(possible)}")
    return Media(best)
