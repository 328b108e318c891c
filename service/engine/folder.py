"""The folder of bundles at a glance: nothing in it is opened."""

from pathlib import Path
from typing import NamedTuple

from bundle.read import scan

__all__ = ["Fingerprint", "Place", "look"]

Fingerprint = frozenset[tuple[str, int, int]]


class Place(NamedTuple):
    """Where a version is, and what its files look like from outside."""

    path: Path
    fingerprint: Fingerprint

    def is_as_it_was(self) -> bool:
        """True unless it has gone, or a file of it has changed, since it was looked at."""
        return self.path.exists() and _fingerprint(self.path) == self.fingerprint


def look(root: Path) -> dict[tuple[str, int], Place]:
    """Every version in the folder, by name and number, in order. Raises OSError when it cannot be listed."""
    return {
        (location.name, location.version): Place(location.path, _fingerprint(location.path)) for location in scan(root)
    }


def _fingerprint(folder: Path) -> Fingerprint:
    """Changes when a file of the folder does, its permissions included: name, size and ctime of each."""
    try:
        entries = [(entry.name, entry.lstat()) for entry in folder.iterdir()]
    except OSError:
        return frozenset()
    return frozenset((name, status.st_size, status.st_ctime_ns) for name, status in entries)
