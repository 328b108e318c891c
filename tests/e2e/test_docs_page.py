"""The API page in a real browser that can reach no other host."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Server

# The last four keep the browser itself from calling home.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def test_the_page_shows_every_operation_with_no_other_host_in_reach(server: Server, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        # `make test` promises to need the package registries alone; CI installs this, and skips fail there (NO_SKIPS).
        pytest.skip("no browser on this machine: install Debian's package chromium")
    ended = subprocess.run(
        [
            chromium,
            *FLAGS,
            f"--user-data-dir={tmp_path}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--virtual-time-budget=15000",
            "--enable-logging=stderr",
            "--dump-dom",
            f"{server.address}/docs#/operations/encode",  # opens that one
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    for operation in ("encode", "decode", "reconstruct", "denoise", "anomaly-score", "sample", "interpolate"):
        assert f'data-path="/v1/models/{{name}}/{operation}"' in ended.stdout
    refused = [line for line in ended.stderr.splitlines() if "Content Security Policy" in line]
    assert not refused, "the page needs something that its own policy forbids"
