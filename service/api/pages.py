"""What a browser is told of the service's own pages: what they may load, and that nobody may frame them."""

import base64
import hashlib
import re
from collections.abc import Mapping

__all__ = ["page_fields"]

SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def page_fields(page: bytes, *, loads: str = "") -> Mapping[str, str]:
    """The fields of a response with this HTML. Its own scripts run, by their hashes, and no others. `loads`: what else
    its Content-Security-Policy lets it load."""
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" for text in SCRIPT.findall(page)]
    scripts = f"; script-src 'self' {' '.join(hashes)}" if hashes else ""
    policy = f"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'{scripts}{loads}"
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
