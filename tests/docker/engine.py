"""The Docker engine, and one project of docker-compose.yml on it."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["PROJECT", "ROOT", "Project", "Refused", "docker", "fetch", "inspect", "until", "writable", "written"]

ROOT = Path(__file__).parents[2]
PROJECT = "diabolo-docker-test"
Answer = TypeVar("Answer")


class Refused(Exception):
    """A command that was expected to succeed did not."""


def docker(*arguments: str, timeout: float = 120) -> str:
    """What `docker ARGUMENTS` prints. Raises Refused with its errors."""
    return _run(["docker", *arguments], timeout=timeout)


def until(
    what: str, ask: Callable[[], Answer | None], *, seconds: float = 300, pause: float = 0.5
) -> tuple[Answer, float]:
    """The first answer of `ask` that is true, and how many seconds it took. Raises TimeoutError."""
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        if answer := ask():
            return answer, time.monotonic() - begun
        time.sleep(pause)
    raise TimeoutError(f"{what}: not within {seconds:g} s")


class Project:
    """The services of docker-compose.yml under a name of their own, on a free port, of images of their own, set by no
    file .env: a deployment from the same checkout keeps its containers, its images and its settings to itself."""

    def __init__(self, **variables: str) -> None:
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.variables = {"PORT": str(self.port), "DIABOLO_IMAGE": PROJECT} | variables
        self.key = ""  # what clients send, once the service asks for one
        self._secrets = tempfile.TemporaryDirectory()
        self.folder = Path(self._secrets.name)  # for its secrets; nobody else of this machine may look into it
        self._settings = self.folder / "none.env"
        self._settings.touch()
        self._command = ["docker", "compose"] if _has_plugin() else ["docker-compose"]

    def compose(self, *arguments: str, timeout: float = 600) -> str:
        """What compose prints. Raises Refused."""
        files = ["-p", PROJECT, "-f", str(ROOT / "docker-compose.yml"), "--env-file", str(self._settings)]
        return _run([*self._command, *files, *arguments], timeout=timeout, **self.variables)

    def containers(self, service: str, *, all_of_them: bool = False) -> list[str]:
        """The ids of a service's containers that run, or of all that there are."""
        labels = [f"label=com.docker.compose.project={PROJECT}", f"label=com.docker.compose.service={service}"]
        filters = [part for label in labels for part in ("--filter", label)]
        return docker("ps", "-q", *(["-a"] if all_of_them else []), "--no-trunc", *filters).split()

    def everything(self) -> list[str]:
        """The ids of all containers, whether they run or not."""
        return docker("ps", "-aq", "--no-trunc", "--filter", f"label=com.docker.compose.project={PROJECT}").split()

    def healthy(self, service: str) -> int:
        """How many of the service's containers say that they are well."""
        return sum(
            inspect(container)["State"]["Health"]["Status"] == "healthy" for container in self.containers(service)
        )

    def inside(self, url: str) -> Any:
        """The JSON that a URL answers within the deployment's own network, where nothing is published."""
        return json.loads(fetch(self.containers("service")[0], url))

    def remove(self) -> None:
        """Containers, networks and volumes of this project are gone; its images stay: the next builds faster."""
        profiles = [part for name in ("gpu", "observability", "train") for part in ("--profile", name)]
        self.compose(*profiles, "down", "-v", "--remove-orphans", "-t", "1")


def inspect(container: str) -> Any:
    """What the engine knows of a container."""
    return json.loads(docker("inspect", container))[0]


def fetch(container: str, url: str) -> str:
    """What a URL answers, asked in a container that has Python."""
    program = f"import urllib.request; print(urllib.request.urlopen({url!r}, timeout=5).read().decode())"
    return docker("exec", container, "python3", "-c", program)


def written(container: str) -> list[str]:
    """What a container changed of its own file system: not its volumes, nor the folders that stand for them."""
    mounts = {mount["Destination"] for mount in inspect(container)["Mounts"]}
    mounts |= set(inspect(container)["HostConfig"].get("Tmpfs") or {})
    own = {str(parent) for mount in mounts for parent in (Path(mount), *Path(mount).parents)}
    return [change for line in docker("diff", container).splitlines() if (change := line[2:]) not in own]


def writable(container: str) -> str:
    """What is wrong where a container's own file system can be written to, or could: root itself is kept from it."""
    state = inspect(container)
    if not state["HostConfig"]["ReadonlyRootfs"]:
        return "its file system is not read-only"
    if not state["State"]["Running"]:
        return ""
    try:
        docker("exec", "-u", "0", container, "sh", "-c", "echo > /written")
    except Refused as refused:
        return "" if "Read-only file system" in str(refused) else str(refused)
    return "root has written /written"


def _run(command: list[str], *, timeout: float, **variables: str) -> str:
    ended = subprocess.run(
        command, env=os.environ | variables, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    if ended.returncode:
        raise Refused(
            f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stdout[-1500:]}{ended.stderr[-1500:]}"
        )
    return ended.stdout


def _has_plugin() -> bool:
    return (
        shutil.which("docker-compose") is None
        or not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
