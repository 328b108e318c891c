"""Versions that are not served as they stand in the folder, and why."""

import logging
from collections import Counter
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import NamedTuple

from bundle.errors import BundleError
from service.engine.folder import Fingerprint
from service.engine.runtimes.memory import lacks_memory
from service.engine.view import Key

__all__ = ["Refusal", "Refusals"]

PASSING: Fingerprint = frozenset()
"""Of no folder with a file in it: the trouble is not the folder's, so each look tries it again."""
logger = logging.getLogger("diabolo.repository")


class Refusal(NamedTuple):
    """Why a version is not served as it stands in the folder. `fingerprint` tells whether that has changed since."""

    name: str
    version: int
    reason: str
    detail: str
    fingerprint: Fingerprint

    @property
    def passing(self) -> bool:
        """True where the trouble is this worker's and of the moment: another may serve the version."""
        return self.fingerprint == PASSING

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class Refusals:
    """What is refused just now, as an immutable mapping, and how often each name was for each reason."""

    def __init__(self) -> None:
        self.by_key: Mapping[Key, Refusal] = MappingProxyType({})
        self.counts: Counter[tuple[str, str]] = Counter()

    def hold(self, key: Key, fingerprint: Fingerprint) -> bool:
        """The version is refused as its folder is now."""
        return key in self.by_key and self.by_key[key].fingerprint == fingerprint

    def add(self, key: Key, error: Exception, *, fingerprint: Fingerprint, served: bool) -> None:
        """The version is refused for this error, which is logged and counted if it was not refused for it before. Where
        what was loaded before is `served`, the log says so."""
        refusal = _refusal(key, error, fingerprint)
        if self.by_key.get(key) != refusal:
            self.counts[refusal.name, refusal.reason] += 1
            stays = "; what was loaded before is still served" if served else ""
            logger.error("refused %s/%d: %s: %s%s", *refusal[:4], stays)
        self.by_key = MappingProxyType({**self.by_key, key: refusal})

    def absolve(self, key: Key) -> None:
        """The version is not refused."""
        if key in self.by_key:
            self.by_key = MappingProxyType({k: refusal for k, refusal in self.by_key.items() if k != key})

    def keep(self, keys: Container[Key]) -> None:
        """No others are refused."""
        self.by_key = MappingProxyType({key: refusal for key, refusal in self.by_key.items() if key in keys})


def _refusal(key: Key, error: Exception, fingerprint: Fingerprint) -> Refusal:
    if isinstance(error, BundleError):
        return Refusal(*key, error.reason, str(error), fingerprint)
    if isinstance(error, OSError):
        return Refusal(*key, "unreadable", error.strerror or "the folder cannot be read", PASSING)
    if lacks_memory(error):
        return Refusal(*key, "out-of-memory", "memory does not suffice to load it at the moment", PASSING)
    logger.error("the program of %s/%d cannot be run", *key, exc_info=error)
    return Refusal(*key, "runtime-failed", "its program cannot be run here; the log has the cause", fingerprint)
