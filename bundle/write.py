"""Publishing a bundle: at every moment a reader sees the old state or the new one, never half."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from bundle.errors import VersionExists
from bundle.manifest import MANIFEST_FILE, FileEntry, Manifest, parse_manifest, serialise_manifest
from bundle.read import check_listing, scan

__all__ = ["next_version", "write_bundle"]


def next_version(root: Path, name: str) -> int:
    """One more than the highest version of `name` below `root`; 1 for a new name."""
    if not root.is_dir():
        return 1
    return max((location.version for location in scan(root) if location.name == name), default=0) + 1


def write_bundle(
    root: Path,
    files: Mapping[str, bytes],
    *,
    manifest: Callable[[dict[str, FileEntry]], Manifest],
) -> Path:
    """`files` and their manifest are on disk as `root/<name>/<version>`, complete; returns that folder.

    `manifest` makes the manifest from the entries of the files. All is written and synced in a sibling whose name
    starts with a dot, the manifest last, and appears under its own name in one rename.

    Raises VersionExists when the version is there already, another BundleError when `read_bundle` would refuse the
    manifest or its list of files, OSError when the disk refuses. Then nothing new is visible, with one exception: when
    the disk refuses the syncs after the rename, the version is there, complete, but might not survive a power failure.
    """
    entries = {
        name: FileEntry(size=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in sorted(files.items())
    }
    complete = manifest(entries)
    manifest_bytes = serialise_manifest(complete)
    parse_manifest(manifest_bytes)
    check_listing(complete)
    if complete.files != entries:
        raise ValueError("the manifest must list the very entries that it was made from")
    parent = root / complete.name
    target = parent / str(complete.version)
    parent.mkdir(parents=True, exist_ok=True)
    work = parent / f".{complete.version}.{secrets.token_hex(4)}"
    work.mkdir()
    try:
        for name, content in files.items():
            _write_synced(work / name, content)
        _write_synced(work / MANIFEST_FILE, manifest_bytes)
        _sync_folder(work)
        # Renaming over an empty folder succeeds, over a published bundle it fails: no race can replace a version.
        try:
            work.rename(target)
        except OSError as error:
            if target.exists():
                raise VersionExists(f"{complete.name}/{complete.version} is already published") from error
            raise
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    _sync_folder(parent)
    _sync_folder(root)
    return target


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
