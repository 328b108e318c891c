"""One class for each way in which a bundle can be wrong.

`reason` is the word that catalogs, logs and metrics show; it never changes once released.
"""

from typing import ClassVar

__all__ = [
    "ArtefactMissing",
    "BundleError",
    "CalibrationInvalid",
    "GoldenInvalid",
    "GoldenMismatch",
    "HashMismatch",
    "ManifestInvalid",
    "ManifestMissing",
    "ManifestTooLarge",
    "MissingFile",
    "NameMismatch",
    "NotARegularFile",
    "ProgramForbidden",
    "ProgramInvalid",
    "SchemaVersionUnknown",
    "SignatureInvalid",
    "SignatureMissing",
    "SizeMismatch",
    "UnknownFile",
    "UnsafeFileName",
    "VersionExists",
]


class BundleError(Exception):
    """A bundle that must not be used. The text says what was found and what would be right."""

    reason: ClassVar[str] = "bundle-invalid"


class ManifestMissing(BundleError):
    """The folder has no manifest.json: it is half copied, or not a bundle."""

    reason = "manifest-missing"


class ManifestTooLarge(BundleError):
    """manifest.json is larger than any honest one; it was not read."""

    reason = "manifest-too-large"


class ManifestInvalid(BundleError):
    """manifest.json is not JSON, or not the schema."""

    reason = "manifest-invalid"


class SchemaVersionUnknown(BundleError):
    """The manifest was written by a release that this one does not know."""

    reason = "schema-version-unknown"


class NameMismatch(BundleError):
    """The folder is not where its manifest says that it belongs: models/<name>/<version>."""

    reason = "name-mismatch"


class UnsafeFileName(BundleError):
    """The manifest lists a file name that could lead out of the folder."""

    reason = "unsafe-file-name"


class UnknownFile(BundleError):
    """A file that no bundle has, or that the manifest does not list."""

    reason = "unknown-file"


class MissingFile(BundleError):
    """A file that the manifest lists, or that every bundle needs, is not there."""

    reason = "missing-file"


class NotARegularFile(BundleError):
    """A symbolic link, a folder or a device stands where a file belongs."""

    reason = "not-a-regular-file"


class SizeMismatch(BundleError):
    """A file is shorter or longer than the manifest says: truncated, or half copied."""

    reason = "size-mismatch"


class HashMismatch(BundleError):
    """A file's bytes are not those that were published."""

    reason = "hash-mismatch"


class SignatureMissing(BundleError):
    """Bundles must be signed, and this one has no model.sig."""

    reason = "signature-missing"


class SignatureInvalid(BundleError):
    """model.sig is not a signature of this content by the key that bundles must be signed with."""

    reason = "signature-invalid"


class CalibrationInvalid(BundleError):
    """calibration.npy is not a sorted, finite, one-dimensional float32 array of the size that the manifest says."""

    reason = "calibration-invalid"


class GoldenInvalid(BundleError):
    """golden.npz does not hold the probe that the manifest's operations need."""

    reason = "golden-invalid"


class GoldenMismatch(BundleError):
    """The loaded program does not reproduce its own probe on this device."""

    reason = "golden-mismatch"


class ProgramInvalid(BundleError):
    """The artefact is intact but cannot be opened by the runtime, or lacks a method that it declares."""

    reason = "program-invalid"


class ProgramForbidden(BundleError):
    """The artefact holds, or calls, what no program of ours does: it was not opened."""

    reason = "program-forbidden"


class ArtefactMissing(BundleError):
    """The bundle is intact but holds nothing that the runtime asked for, or those installed, can open."""

    reason = "artefact-missing"


class VersionExists(BundleError):
    """The version to be written is already there; a published version never changes."""

    reason = "version-exists"
