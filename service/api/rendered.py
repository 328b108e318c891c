"""Whole answers on their way out."""

from collections.abc import Sequence

from fastapi import Response

__all__ = ["JSON_FIELDS", "Rendered"]

JSON_FIELDS = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"vary", b"Accept, Accept-Encoding"),
)


class Rendered(Response):
    """A whole answer whose fields are as they go over the wire, their names in small letters. Its length is added."""

    def __init__(self, content: bytes, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self.status_code = 200
        self.background = None
        self.body = content
        self.raw_headers = [*fields, (b"content-length", b"%d" % len(content))]
