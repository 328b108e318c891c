"""Certificates as a real authority gives them out, and who trusts it."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import trustme

__all__ = ["Files", "trust_in", "write_certificate"]


class Files(NamedTuple):
    """A certificate with its chain, and its key, in PEM."""

    certificate: Path
    key: Path

    @property
    def settings(self) -> dict[str, str]:
        """What a service needs to know of them."""
        return {"tls_certificate": str(self.certificate), "tls_key": str(self.key)}


def write_certificate(authority: trustme.CA, folder: Path, name: str = "127.0.0.1", *, expired: bool = False) -> Files:
    """A certificate for this name is in the folder, in place of one that was there."""
    end = datetime.now(UTC) - timedelta(days=1) if expired else None
    issued = authority.issue_cert(name, not_after=end)
    files = Files(folder / "certificate.pem", folder / "key.pem")
    files.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    files.key.write_bytes(issued.private_key_pem.bytes())
    return files


def trust_in(authority: trustme.CA, own: Files | None = None) -> ssl.SSLContext:
    """Of a client that trusts this authority alone, and shows a certificate of its `own` if it has one."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if own is not None:
        context.load_cert_chain(own.certificate, own.key)
    return context
