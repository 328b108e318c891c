"""A folder of bundles that changes: versions of shipped bundles under any name and number."""

import shutil
from pathlib import Path

from benchmarks.serving import ROOT
from bundle.read import Bundle, read_bundle, scan
from bundle.write import write_bundle

__all__ = ["publish", "remove", "shipped"]


def shipped(name: str) -> Bundle:
    """The newest version of a bundle of this repository."""
    *_, location = [found for found in scan(ROOT / "models") if found.name == name]
    return read_bundle(location.path)


def publish(bundle: Bundle, root: Path, *, version: int = 1, name: str | None = None) -> Bundle:
    """The bundle is at `root/<name>/<version>`, as if it had been trained under that name; returned as read back."""
    changes = {"name": name or bundle.manifest.name, "version": version}
    folder = write_bundle(
        root,
        bundle.files,
        manifest=lambda entries: bundle.manifest.model_copy(update={**changes, "files": entries}),
    )
    return read_bundle(folder)


def remove(root: Path, name: str, version: int) -> None:
    """The version is gone, at once as far as a reader can tell."""
    folder = root / name / str(version)
    leaving = folder.with_name(f".{version}.leaving")
    folder.rename(leaving)
    shutil.rmtree(leaving)
