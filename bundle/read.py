"""Opening a bundle: everything is verified before anything is deserialised."""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bundle.calibration import Calibration
from bundle.errors import (
    CalibrationInvalid,
    GoldenInvalid,
    HashMismatch,
    ManifestMissing,
    MissingFile,
    NameMismatch,
    NotARegularFile,
    SignatureInvalid,
    SignatureMissing,
    SizeMismatch,
    UnknownFile,
    UnsafeFileName,
)
from bundle.golden import Golden
from bundle.manifest import (
    CALIBRATION_FILE,
    GOLDEN_FILE,
    KNOWN_FILES,
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    SIGNATURE_FILE,
    Manifest,
    is_name,
    parse_manifest,
)

__all__ = ["Bundle", "CheckSignature", "Location", "check_listing", "read_bundle", "scan"]

CheckSignature = Callable[[Path, Mapping[str, str]], None]
"""Given the path of model.sig and the SHA-256 of every other file by name, as they were read, returns when it is a
signature of these. Raises SignatureInvalid."""
MAX_SIGNATURE_BYTES = 2**20

_VERSION = re.compile(r"[1-9][0-9]*")


@dataclass(frozen=True, order=True)
class Location:
    """A folder that claims, by its place, to be version `version` of the bundle `name`."""

    name: str
    version: int
    path: Path


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle in memory. `files` are the very bytes that were hashed, so that what is loaded is what was
    verified, whatever happens to the folder meanwhile."""

    manifest: Manifest
    digest: str
    golden: Golden
    calibration: Calibration | None
    files: Mapping[str, bytes]

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 by file name, the manifest's included: what a signature is made of."""
        return _hashes(self.manifest, self.digest)


def scan(root: Path) -> list[Location]:
    """Every `<name>/<version>` folder below `root`, in order. Names that start with a dot are work in progress and are
    passed over, as is whatever cannot be a name or a version. Nothing is opened.

    Raises OSError when `root` or a bundle's folder cannot be listed: what cannot be seen has not gone away.
    """
    found = []
    for name in sorted(entry for entry in root.iterdir() if is_name(entry.name)):
        try:
            versions = list(name.iterdir()) if name.is_dir() else []
        except (FileNotFoundError, NotADirectoryError):  # removed or replaced while we looked
            continue
        found += [
            Location(name.name, int(folder.name), folder)
            for folder in versions
            if _VERSION.fullmatch(folder.name) and folder.is_dir()
        ]
    return sorted(found)


def read_bundle(folder: Path, *, check_signature: CheckSignature | None = None) -> Bundle:
    """The bundle in `folder`, which must be called `<name>/<version>`.

    File names, sizes, hashes, the schema and the folder's own name are all checked before the probe and the
    calibration are parsed; the program itself is never opened here. With `check_signature` there is a signature, and it
    has been checked by then. Raises a BundleError that names the damage, and OSError only when the disk refuses a read.
    """
    content = _read_manifest(folder)
    manifest = parse_manifest(content)
    if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
        raise NameMismatch(
            f"the folder is {folder.parent.name}/{folder.name}, its manifest says {manifest.name}/{manifest.version}"
        )
    check_listing(manifest)
    _refuse_strangers(folder, manifest)
    files = {name: _read_verified(folder, name, manifest) for name in manifest.files}
    digest = hashlib.sha256(content).hexdigest()
    if check_signature is not None:
        _require_signature(folder)
        check_signature(folder / SIGNATURE_FILE, _hashes(manifest, digest))

    golden = Golden.from_bytes(files[GOLDEN_FILE])
    if set(golden.expected) != manifest.methods:
        raise GoldenInvalid("golden.npz must hold a probe of every method that the manifest's operations need")
    if (golden.inputs.shape[1], golden.latents.shape[1]) != (manifest.input.size, manifest.latent.size):
        raise GoldenInvalid("golden.npz holds rows of other sizes than the manifest says")
    calibration = None
    if manifest.calibration is not None:
        calibration = Calibration.from_bytes(files[CALIBRATION_FILE])
        if calibration.size != manifest.calibration.size:
            raise CalibrationInvalid(
                f"calibration.npy holds {calibration.size} scores, the manifest says {manifest.calibration.size}"
            )
    return Bundle(manifest, digest, golden, calibration, files)


def _hashes(manifest: Manifest, digest: str) -> dict[str, str]:
    return {name: entry.sha256 for name, entry in manifest.files.items()} | {MANIFEST_FILE: digest}


def _read_manifest(folder: Path) -> bytes:
    if folder.is_symlink() or folder.parent.is_symlink():
        raise NotARegularFile("a bundle's folder must not be a symbolic link")
    try:
        return _read_regular(folder / MANIFEST_FILE, at_most=MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise ManifestMissing("the folder has no manifest.json") from None


def check_listing(manifest: Manifest) -> None:
    """The files that the manifest lists are all that are needed, and all of them are known and plainly named.

    Raises UnsafeFileName, UnknownFile or MissingFile.
    """
    for name in manifest.files:
        if name in {".", ".."} or PurePosixPath(name).name != name or "\\" in name or "\0" in name:
            raise UnsafeFileName("the manifest lists a file name that could lead out of the folder")
        if name not in KNOWN_FILES:
            raise UnknownFile(f"the manifest lists {name!r}; a bundle may hold {', '.join(sorted(KNOWN_FILES))}")
    needed = {GOLDEN_FILE, *(file for files in manifest.artefacts.values() for file in files)}
    if manifest.calibration is not None:
        needed.add(CALIBRATION_FILE)
    if needed - set(manifest.files):
        raise MissingFile(f"the manifest does not list {sorted(needed - set(manifest.files))[0]!r}")


def _refuse_strangers(folder: Path, manifest: Manifest) -> None:
    try:
        present = {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        raise MissingFile("the folder was removed while it was read") from None
    strangers = present - set(manifest.files) - {MANIFEST_FILE, SIGNATURE_FILE}
    if strangers:
        raise UnknownFile(f"the folder holds {sorted(strangers)[0]!r}, which its manifest does not list")


def _require_signature(folder: Path) -> None:
    """Returns when there is a plain file to check; what it says is worth nothing before that."""
    try:
        content = _read_regular(folder / SIGNATURE_FILE, at_most=MAX_SIGNATURE_BYTES)
    except FileNotFoundError:
        raise SignatureMissing(f"the bundle is not signed: it has no {SIGNATURE_FILE}") from None
    if len(content) > MAX_SIGNATURE_BYTES:
        raise SignatureInvalid(f"{SIGNATURE_FILE} has more than {MAX_SIGNATURE_BYTES} bytes")


def _read_verified(folder: Path, name: str, manifest: Manifest) -> bytes:
    entry = manifest.files[name]
    try:
        content = _read_regular(folder / name, at_most=entry.size)
    except FileNotFoundError:
        raise MissingFile(f"{name} is listed in the manifest but is not there") from None
    if len(content) != entry.size:
        relation = "shorter" if len(content) < entry.size else "longer"
        raise SizeMismatch(f"{name} is {relation} than the {entry.size} bytes that the manifest says")
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise HashMismatch(f"the bytes of {name} are not those that were published (SHA-256 differs)")
    return content


def _read_regular(path: Path, *, at_most: int) -> bytes:
    """The first `at_most` + 1 bytes of a regular file, links not followed; one byte more than allowed shows excess."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotARegularFile(f"{path.name} is a symbolic link") from None
        if error.errno == errno.ENXIO:
            raise NotARegularFile(f"{path.name} is a socket") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotARegularFile(f"{path.name} is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            # A read reserves what it is asked for: a manifest that promises an exabyte must not decide how much.
            return file.read(min(at_most, status.st_size) + 1)
    finally:
        os.close(descriptor)
