"""What is wanted of the bundles beside their being in the folder: pins and unloads, in one JSON file that every worker
follows and that can be read and written by hand."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from bundle.manifest import NAME_PATTERN
from service.engine.acknowledgements import acknowledgements
from service.errors import StateDamaged, StateUnavailable

__all__ = ["NOTHING", "STATE_FILE", "Desired", "StateFile", "Wish"]

STATE_FILE = "desired.json"
LOCK_FILE = ".desired.lock"
NEW_FILE = ".desired.new"
MAX_BYTES = 2**20
LOCK_SECONDS = 5.0
LOCK_PAUSE = 0.01

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Wish(_Strict):
    """What is wanted of one name. Where nothing is, it is served and its newest version answers."""

    pinned: int | None = Field(None, ge=1)
    """The version that answers where none is named."""
    unloaded: bool = False
    """True where no version is to be in memory."""

    def pin(self, version: int) -> "Wish":
        """That version is to answer, and to be loaded."""
        return Wish(pinned=version)

    def unpin(self) -> "Wish":
        """The newest version is to answer, and to be loaded."""
        return Wish()

    def load(self) -> "Wish":
        """To be loaded; what is pinned stays so."""
        return Wish(pinned=self.pinned)

    def unload(self) -> "Wish":
        """Not to be in memory; what is pinned will be so again when it is loaded."""
        return Wish(pinned=self.pinned, unloaded=True)


class Desired(_Strict):
    """What is wanted of every name, and how often that has changed."""

    schema_version: Literal[1] = 1
    revision: int = Field(0, ge=0)
    models: Mapping[Name, Wish] = Field(default_factory=lambda: MappingProxyType({}))

    def of(self, name: str) -> Wish:
        """What is wanted of this name."""
        return self.models.get(name, NO_WISH)

    def in_words(self) -> str:
        """For the log."""
        words = [
            f"{name} {'unloaded' if wish.unloaded else f'pinned to {wish.pinned}'}"
            for name, wish in self.models.items()
        ]
        return ", ".join(words) or "all that is in the folder"

    def with_wish(self, name: str, wish: Wish, *, revision: int) -> "Desired":
        """The same, but for this name."""
        models = {**self.models, name: wish}
        return Desired(revision=revision, models={key: models[key] for key in sorted(models) if models[key] != NO_WISH})


NO_WISH = Wish()
NOTHING = Desired()


class StateFile:
    """The file in its folder, `DIABOLO_STATE_DIR`. It is only ever replaced as a whole, by one writer at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> Desired:
        """What is wanted now; nothing where there is no file.

        Raises StateDamaged where the file says something that cannot be, StateUnavailable where it cannot be read.
        """
        try:
            with (self.folder / STATE_FILE).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            if self.folder.is_dir():
                return NOTHING
            raise StateUnavailable("the folder of the state is not there") from None
        except OSError as error:
            raise StateUnavailable(f"{STATE_FILE} cannot be read: {error.strerror}") from None
        if len(content) > MAX_BYTES:
            raise StateDamaged(f"{STATE_FILE} has more than {MAX_BYTES} bytes")
        try:
            return Desired.model_validate_json(content)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise StateDamaged(f"{STATE_FILE} is wrong: {f'{where}: ' if where else ''}{fault['msg']}") from None

    def change(self, name: str, change: Callable[[Wish], Wish]) -> Desired:
        """What is wanted of `name` has been changed and is on disk, at a revision that no worker has seen before;
        returns what is wanted now. Where nothing changes nothing is written, unless the newest version is to answer:
        which one that is, workers find out by a look at the folder, which a new revision makes them take.

        Raises StateDamaged, so that what somebody wrote by hand is not lost, and StateUnavailable.
        """
        try:
            with self._locked():
                before = self.read()
                wish = change(before.of(name))
                if wish == before.of(name) != NO_WISH:
                    return before
                # An older file may have been put back by hand: what workers have seen may be newer than what it says.
                seen = max((found.revision for found in acknowledgements(self.folder)), default=0)
                after = before.with_wish(name, wish, revision=max(before.revision, seen) + 1)
                self._replace(after)
                return after
        except OSError as error:
            raise StateUnavailable(f"{STATE_FILE} cannot be written: {error.strerror}", retry_after=1) from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile. The kernel gives the lock back when its holder dies."""
        # Read only: it may be another user's, who runs `diabolo models` where the service runs.
        descriptor = os.open(self.folder / LOCK_FILE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StateUnavailable(f"somebody else has been changing {STATE_FILE} for long") from None
                    time.sleep(LOCK_PAUSE)
            yield
        finally:
            os.close(descriptor)

    def _replace(self, desired: Desired) -> None:
        new = self.folder / NEW_FILE
        document = desired.model_dump(mode="json", exclude_defaults=True)
        new.unlink(missing_ok=True)  # left by a writer that was killed
        with new.open("x", encoding="utf-8") as file:
            file.write(json.dumps({"schema_version": desired.schema_version, **document}, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.folder / STATE_FILE)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
