"""Pages: what a browser may load for them, and that nobody may frame them."""

import base64
import hashlib

import pytest

from service.api.pages import page_fields
from tests.service.serving import Served


def directives(policy: str) -> dict[str, list[str]]:
    return {name: values for name, *values in (part.split() for part in policy.split(";"))}


@pytest.mark.parametrize("path", ["/docs", "/problems/not-found"])
async def test_a_page_loads_nothing_from_elsewhere_and_is_in_no_frame(served: Served, path: str) -> None:
    page = await served.get(path)
    assert (page.headers["x-content-type-options"], page.headers["referrer-policy"]) == ("nosniff", "no-referrer")
    policy = directives(page.headers["content-security-policy"])
    for name in ("default-src", "base-uri", "form-action", "frame-ancestors"):
        assert policy[name] == ["'none'"]
    for name, sources in policy.items():
        assert not [source for source in sources if "//" in source or source in {"*", "https:", "http:"}], name
    assert "'unsafe-inline'" not in policy.get("script-src", [])
    assert "'unsafe-eval'" not in policy.get("script-src", [])


async def test_a_page_without_scripts_runs_none(served: Served) -> None:
    assert "script-src" not in (await served.get("/problems/not-found")).headers["content-security-policy"]


def test_a_pages_own_scripts_run_by_their_hashes() -> None:
    policy = directives(page_fields(b"<script>\none()</script><script src=x></script>")["Content-Security-Policy"])
    digest = base64.b64encode(hashlib.sha256(b"\none()").digest()).decode()
    assert policy["script-src"] == ["'self'", f"'sha256-{digest}'"]
