"""A peer's own environment under the temporary folder, made once and used again."""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peers.peer import Peer

__all__ = ["NotInstalled", "environment", "installed_versions"]

FOLDER = Path(tempfile.gettempdir()) / "diabolo-peers"
TOLD = ("torch", "numpy", "uvicorn")


class NotInstalled(Exception):
    """A peer's packages cannot be had on this machine; the text says why."""


def environment(peer: Peer) -> Path:
    """The folder of programs of an environment that has exactly the packages of the peer's list.

    Raises NotInstalled.
    """
    packages = Path(__file__).with_name(f"{peer.name}.txt")
    digest = hashlib.sha256(packages.read_bytes()).hexdigest()
    folder = FOLDER / peer.name
    programs, marker = folder / "bin", folder / "complete"
    if not marker.exists() or marker.read_text() != digest:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(programs / "pip"), "install", "--quiet", "--requirement", str(packages)])
        marker.write_text(digest)
    return programs


def installed_versions(peer: Peer, programs: Path) -> dict[str, str]:
    """Distribution -> version, of the server and of what weighs most beside it."""
    listed = subprocess.run([programs / "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    versions = dict(line.split("==", 1) for line in listed.splitlines() if "==" in line)
    return {name: versions[name] for name in (peer.package, *TOLD) if name in versions}


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise NotInstalled(errors[0].removeprefix("ERROR: ") if errors else f"exit code {done.returncode}")
