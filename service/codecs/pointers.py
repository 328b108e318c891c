"""Names as parts of a JSON Pointer."""

from urllib.parse import quote

__all__ = ["escape"]

MOST_CHARACTERS = 64


def escape(name: str) -> str:
    """The name, at most 64 characters of it, as a part of a JSON Pointer in a URI fragment (RFC 6901, section 6)."""
    escaped = name[:MOST_CHARACTERS].replace("~", "~0").replace("/", "~1")
    return quote(escaped, safe="~!$&'()*+,;=:@", errors="replace")
