"""HTTPS: the certificate that clients are shown, its key, and whose certificates the service wants to see."""

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Any

from service.settings import Settings

__all__ = ["TlsUnusable", "check_tls", "follow_certificate", "tls_options"]

OF_ANOTHER_KEY = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}
OF_THE_CERTIFICATE = {"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"}
logger = logging.getLogger("diabolo.tls")


class TlsUnusable(Exception):
    """HTTPS cannot be served with these settings. The text names the one that is wrong and says why."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"DIABOLO_{setting.upper()}: {reason}")


class _Locked(Exception):
    """The key asks for a password and there is none."""


def tls_options(settings: Settings) -> dict[str, Any]:
    """What uvicorn has to be told, and nothing where there is no certificate: uvicorn can load all of it.

    Raises TlsUnusable.
    """
    certificate, client_ca = settings.tls_certificate, settings.tls_client_ca
    if certificate is None:
        return {}
    password = _password(settings.tls_key_password_file)
    _check_certificates("tls_certificate", certificate)
    if client_ca is not None:
        _check_certificates("tls_client_ca", client_ca)
    _check_key(certificate, settings.tls_key, password)
    return {
        "ssl_certfile": certificate,
        "ssl_keyfile": settings.tls_key,
        "ssl_keyfile_password": password,
        "ssl_ca_certs": client_ca,
        "ssl_cert_reqs": ssl.CERT_REQUIRED if client_ca is not None else ssl.CERT_NONE,
    }


def check_tls(settings: Settings) -> None:
    """HTTPS can be served, if that is asked for; where clients would not accept the certificate, the log says why.

    Raises TlsUnusable.
    """
    options = tls_options(settings)
    if options and (reason := _complaint(options)):
        logger.warning("clients will refuse the certificate in %s: %s", settings.tls_certificate, reason)


async def follow_certificate(settings: Settings, context: ssl.SSLContext) -> None:
    """Whoever connects is shown what the files hold by then, for ever: certificates are renewed while services run.
    Where the files are wrong, what was loaded before stays, and the log says why."""
    seen = _stamps(settings)
    while True:
        await asyncio.sleep(settings.poll_seconds)
        now = await asyncio.to_thread(_stamps, settings)
        if now == seen:
            continue
        seen = now  # even if they cannot be used: that is said once
        try:
            options = await asyncio.to_thread(tls_options, settings)
            context.load_cert_chain(options["ssl_certfile"], options["ssl_keyfile"], options["ssl_keyfile_password"])
        except TlsUnusable as error:
            logger.error("%s; the certificate that was loaded before stays", error)
        except OSError:  # they have changed once more just now
            seen = []
        else:
            logger.info("the certificate in %s has been loaded anew", settings.tls_certificate)


def _stamps(settings: Settings) -> list[tuple[int, int] | None]:
    """What differs after each change."""
    found: list[tuple[int, int] | None] = []
    for path in (settings.tls_certificate, settings.tls_key, settings.tls_key_password_file):
        try:
            status = path.stat() if path is not None else None
        except OSError:
            status = None
        found.append((status.st_mtime_ns, status.st_ino) if status is not None else None)
    return found


def _complaint(options: dict[str, Any]) -> str | None:
    """Why even clients that trust the certificate itself would refuse it, such as that it has expired; None if they
    would not. It is shown to one, in memory."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(options["ssl_certfile"], options["ssl_keyfile"], options["ssl_keyfile_password"])
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(options["ssl_certfile"])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (asking, answering, asking):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
    return None


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        password = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, ValueError) as error:
        raise TlsUnusable("tls_key_password_file", f"{path} cannot be read: {_said(error)}") from None
    if not password:
        raise TlsUnusable("tls_key_password_file", f"the first line of {path} is empty")
    return password


def _check_certificates(setting: str, path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise TlsUnusable(setting, f"{path} has no certificate in PEM") from None
    except OSError as error:
        raise TlsUnusable(setting, f"{path} cannot be read: {_said(error)}") from None


def _check_key(certificate: Path, key: Path | None, password: str | None) -> None:
    def unlock() -> str:
        if password is None:  # OpenSSL would ask whoever sits at the terminal
            raise _Locked
        return password

    place = key or certificate
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, unlock)
    except _Locked:
        reason = f"{place} is encrypted: DIABOLO_TLS_KEY_PASSWORD_FILE has to name a file with its password"
    except ssl.SSLError as error:
        if error.reason in OF_THE_CERTIFICATE:
            reason = f"{certificate} is not secure enough: {error.reason.replace('_', ' ').lower()}"
            raise TlsUnusable("tls_certificate", reason) from None
        if error.reason in OF_ANOTHER_KEY:
            reason = f"{place} is the key of another certificate than {certificate}"
        elif password is not None:
            reason = f"{place} has no private key in PEM, or the password is not its"
        elif key is None:
            reason = f"there is none, and no private key is in {certificate}"
        else:
            reason = f"{place} has no private key in PEM"
    except OSError as error:
        reason = f"{place} cannot be read: {_said(error)}"
    else:
        return
    raise TlsUnusable("tls_key", reason) from None


def _said(error: Exception) -> str:
    return (error.strerror or "").lower() if isinstance(error, OSError) else "it is not text"
