"""Which workers serve what is wanted: each says so in a file of its own, which it keeps locked while it lives."""

import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.claims import claim, is_claimed
from service.errors import StateUnavailable

__all__ = ["Acknowledgement", "Acknowledger", "acknowledgements", "pending"]

FOLDER = "workers"
MAX_BYTES = 2**20
logger = logging.getLogger("diabolo.state")


class Acknowledgement(BaseModel):
    """How far a worker is. `worker` is its host and process id, as in its log."""

    model_config = ConfigDict(frozen=True)
    worker: str
    revision: int = -1
    """The revision that it has read; -1 while it has read none."""
    unmet: Mapping[str, str] = Field(default_factory=lambda: MappingProxyType({}))
    """Names that it does not serve as wanted (yet), and why."""
    looked: bool = True
    """True where it has gone through the folder of bundles since it has read that revision."""
    decided: tuple[str, ...] = ()
    """Names of which a version is pinned, or none is wanted: what is to be served of these depends on no look."""


class Acknowledger:
    """A worker's file. It vanishes with the worker: who dies without removing it gives back its lock all the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._worker = f"{socket.gethostname()}/{os.getpid()}"
        self._path = self._folder / f"{os.getpid()}-{secrets.token_hex(4)}.json"
        self._descriptor: int | None = None
        self._said: Acknowledgement | None = None

    def write(
        self, revision: int, unmet: Mapping[str, str], *, looked: bool = True, decided: Collection[str] = ()
    ) -> None:
        """Whoever asks learns that this worker has read `revision` and does not serve `unmet` as wanted, and, for names
        that are not `decided`, whether it has `looked` at the folder since. Raises OSError where the disk refuses."""
        if self._descriptor is not None and not self._path.exists():  # somebody tidied up
            self.close()
        now = Acknowledgement(
            worker=self._worker, revision=revision, unmet=unmet, looked=looked, decided=tuple(sorted(decided))
        )
        if self._descriptor is None:
            self._folder.mkdir(exist_ok=True)
            self._descriptor = claim(self._path, now.model_dump_json().encode())
        elif now != self._said:
            _overwrite(self._descriptor, now.model_dump_json().encode())
        self._said = now

    def close(self) -> None:
        """This worker counts no more."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


def acknowledgements(folder: Path) -> list[Acknowledgement]:
    """What every live worker says. The files of dead ones are removed.

    Raises StateUnavailable where the folder cannot be read.
    """
    found = []
    try:
        files = sorted((folder / FOLDER).glob("[!.]*.json"))
    except OSError as error:
        raise StateUnavailable(f"the folder of workers cannot be read: {error.strerror}") from None
    for file in files:
        with contextlib.suppress(OSError), file.open("rb") as content:
            if is_claimed(content.fileno()):
                found.append(_parsed(content.read(MAX_BYTES), file))
            else:
                file.unlink(missing_ok=True)
    return found


def pending(folder: Path, name: str, *, revision: int) -> dict[str, str]:
    """The live workers that do not serve `name` as wanted at `revision`, and why. Raises StateUnavailable."""
    waiting = {}
    for found in acknowledgements(folder):
        if found.revision < revision:
            waiting[found.worker] = "it has not read this yet"
        elif name in found.unmet:
            waiting[found.worker] = found.unmet[name]
        elif not found.looked and name not in found.decided:
            waiting[found.worker] = "it has not looked at the folder since"
    return waiting


def _parsed(content: bytes, file: Path) -> Acknowledgement:
    try:
        return Acknowledgement.model_validate_json(content)
    except ValidationError:  # read while it was being written
        return Acknowledgement(worker=file.stem)


def _overwrite(descriptor: int, content: bytes) -> None:
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))
