"""API keys: who may do what, and how often, in one JSON file that holds no key itself but only what it hashes to."""

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Collection, Iterator
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

__all__ = ["ApiKey", "KeyFile", "KeyFileDamaged", "KeyScope", "Keyring", "Rate", "Stamp", "digest_of"]

MAX_BYTES = 2**20
KEY_BYTES = 32
# What programs that look for secrets in commits know it by.
KEY_PREFIX = "diabolo_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
OWNER_ONLY = 0o600
FOR_OTHERS = 0o077

Stamp = tuple[int, int, int]
"""Modification time, size and inode of a file: what differs whenever it was replaced or written to."""


class KeyFileDamaged(Exception):
    """The file of keys cannot be read, or says something that cannot be. The text says what, and holds no path."""


class KeyScope(StrEnum):
    """What a key is for. None includes another."""

    INFER = "infer"
    ADMIN = "admin"
    METRICS = "metrics"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Rate(_Strict):
    """A token bucket: so many requests per second for ever, and so many at once after a pause."""

    requests_per_second: float = Field(gt=0, allow_inf_nan=False)
    burst: int = Field(ge=1)


class ApiKey(_Strict):
    """A key without the key itself."""

    name: Annotated[str, StringConstraints(pattern=rf"^{NAME.pattern}$")]
    scopes: frozenset[KeyScope] = Field(min_length=1)
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    rate: Rate | None = None
    """None: no limit."""

    def document(self) -> dict[str, object]:
        """As the file has it."""
        rate = {"rate": self.rate.model_dump()} if self.rate else {}
        return {"name": self.name, "scopes": sorted(self.scopes), "sha256": self.sha256, **rate}


class Keyring(_Strict):
    """All keys, each with a name and a digest of its own."""

    schema_version: Literal[1] = 1
    keys: tuple[ApiKey, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for values in ([key.name for key in self.keys], [key.sha256 for key in self.keys]):
            if len(set(values)) < len(values):
                raise ValueError("two keys have one name or one digest")
        return self

    @cached_property
    def _by_digest(self) -> dict[bytes, ApiKey]:
        return {bytes.fromhex(key.sha256): key for key in self.keys}

    def find(self, given: bytes) -> ApiKey | None:
        """The key that hashes to what `given` does. How long that takes says nothing of any key: what is looked up is
        a digest, which nobody can choose, and its comparison takes constant time."""
        digest = digest_of(given)
        key = self._by_digest.get(digest)
        return key if key is not None and hmac.compare_digest(bytes.fromhex(key.sha256), digest) else None


def digest_of(key: bytes) -> bytes:
    """The SHA-256 that stands for a key. It needs no salt and no slow hash: a key of 256 random bits is not guessed."""
    return hashlib.sha256(key).digest()


class Found(NamedTuple):
    """What is in the file, as it was at one time. `exposed`: others than its owner may read or change it."""

    keyring: Keyring
    stamp: Stamp
    exposed: bool


class KeyFile:
    """The file `DIABOLO_API_KEYS_FILE`. It is only ever replaced as a whole, by one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def stamp(self) -> Stamp | None:
        """What differs after each change; None where there is no file to be seen."""
        try:
            return _stamp(self.path.stat())
        except OSError:
            return None

    def read(self) -> Found:
        """What is in the file. Raises KeyFileDamaged."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise KeyFileDamaged(f"it cannot be read: {error.strerror}") from None
        if len(content) > MAX_BYTES:
            raise KeyFileDamaged(f"it has more than {MAX_BYTES} bytes")
        try:
            keyring = Keyring.model_validate_json(content)
        except ValidationError as error:
            fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
            where = ".".join(map(str, fault["loc"]))
            raise KeyFileDamaged(f"{f'{where}: ' if where else ''}{fault['msg']}") from None
        return Found(keyring, _stamp(status), exposed=bool(status.st_mode & FOR_OTHERS))

    def add(self, name: str, *, scopes: Collection[KeyScope], rate: Rate | None = None) -> str:
        """A new key of that name is in the file, which is made if there is none; the key itself is only here.

        Raises KeyFileDamaged; ValueError where the name cannot be or is taken; OSError.
        """
        if not NAME.fullmatch(name):
            raise ValueError("a name has letters, digits, dots, hyphens and underscores, at most 64")
        secret = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
        key = ApiKey(name=name, scopes=frozenset(scopes), sha256=digest_of(secret.encode()).hex(), rate=rate)
        with self._locked():
            keys = self._keys()
            if any(known.name == name for known in keys):
                raise ValueError(f"there is a key of the name {name}; remove it first, or give another name")
            self._replace((*keys, key))
        return secret

    def remove(self, name: str) -> None:
        """No key of that name is in the file. Raises KeyFileDamaged; ValueError where there was none; OSError."""
        with self._locked():
            keys = self._keys()
            left = tuple(key for key in keys if key.name != name)
            if len(left) == len(keys):
                names = ", ".join(key.name for key in keys) or "none at all"
                raise ValueError(f"there is no key of the name {name}; there is {names}")
            self._replace(left)

    def _keys(self) -> tuple[ApiKey, ...]:
        return self.read().keyring.keys if self.path.exists() else ()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else changes the file meanwhile. The kernel gives the lock back when its holder dies."""
        descriptor = os.open(self._beside("lock"), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _replace(self, keys: tuple[ApiKey, ...]) -> None:
        """Whoever may read the file may still do so, and nobody else."""
        new = self._beside("new")
        before = self.path.stat() if self.path.exists() else None
        documents = ",\n".join(f"  {json.dumps(key.document())}" for key in keys)
        new.unlink(missing_ok=True)  # left by a writer that was killed
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY)
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123  # a path opens with other permissions
            file.write(f'{{"schema_version": 1, "keys": [\n{documents}\n]}}\n')
            file.flush()
            if before is not None:
                os.fchmod(descriptor, before.st_mode & 0o777)
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
            os.fsync(descriptor)
        new.replace(self.path)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{suffix}")


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino
