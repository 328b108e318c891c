"""Signatures of bundles in the OpenSSF model-signing format, by a key of one's own: no network, no certificates.

A signature lists the SHA-256 of every file. It is made and checked for the bytes that were read, not for what is in the
folder then. `model_signing verify key` understands it too.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from model_signing import hashing, manifest, signing, verifying
from model_signing._hashing.hashing import Digest

from bundle.errors import SignatureInvalid
from bundle.manifest import SIGNATURE_FILE
from bundle.read import CheckSignature

__all__ = ["KeyUnusable", "require_signature", "sign"]


class KeyUnusable(Exception):
    """The file is no key that bundles can be signed or checked with."""


class _AsRead(hashing.Config):
    """Gives the hashes of what was read, in place of hashing a folder."""

    def __init__(self, hashes: Mapping[str, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # its own
        self._hashes = hashes

    def hash(self, model_path: hashing.PathLike, *, files_to_hash: Any = None) -> manifest.Manifest:  # noqa: ARG002
        kind = manifest.SerializationType.from_args(
            {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [SIGNATURE_FILE]}
        )
        items = [
            manifest.FileManifestItem(path=PurePosixPath(name), digest=Digest("sha256", bytes.fromhex(value)))
            for name, value in sorted(self._hashes.items())
        ]
        return manifest.Manifest(Path(str(model_path)).name, items, kind)


def require_signature(key: Path) -> CheckSignature:
    """What checks that a bundle was signed with the private half of `key`: PEM, elliptic curve P-256, P-384 or P-521.

    Raises KeyUnusable.
    """
    _verifier(key)

    def check(signature: Path, hashes: Mapping[str, str]) -> None:
        verifier = _verifier(key).set_hashing_config(_AsRead(hashes))
        try:
            verifier.verify(signature.parent, signature)
        except Exception as error:  # whatever is wrong with a signature, in the words of many libraries
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise SignatureInvalid(
                f"{SIGNATURE_FILE} is not a signature of this content by the key that is required: {reason}"
            ) from None

    return check


def sign(folder: Path, hashes: Mapping[str, str], *, key: Path, to: Path, password: str | None = None) -> None:
    """The file `to` is a signature of the bundle in `folder`, whose files have these hashes, by the private `key`.

    Raises KeyUnusable.
    """
    try:
        secret: Any = password and password.encode()  # not a str, whatever the signature says
        config = signing.Config()  # type: ignore[no-untyped-call]  # its own
        signer = config.use_elliptic_key_signer(private_key=key, password=secret)
    except Exception as error:  # ValueError, TypeError, OSError and others
        raise KeyUnusable(f"{key} is no private key of an elliptic curve in PEM: {_said(error)}") from None
    signer.set_hashing_config(_AsRead(hashes)).sign(folder, to)


def _verifier(key: Path) -> verifying.Config:
    try:
        config = verifying.Config()  # type: ignore[no-untyped-call]  # its own
        return config.use_elliptic_key_verifier(public_key=key)
    except Exception as error:  # ValueError, TypeError, OSError and others
        raise KeyUnusable(f"{key} is no public key of an elliptic curve in PEM: {_said(error)}") from None


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or "it cannot be read").lower()
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
