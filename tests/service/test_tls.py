"""The files of HTTPS: one clear sentence for each way in which they can be wrong, before anything is served."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from fastapi import FastAPI

from service.server import server_config
from service.settings import Settings
from service.tls import TlsUnusable, check_tls, follow_certificate, tls_options
from tests.certificates import Files, trust_in, write_certificate

AUTHORITY = trustme.CA()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_certificate(AUTHORITY, tmp_path)


def settings_of(files: Files, **others: Any) -> Settings:
    return Settings(tls_certificate=files.certificate, tls_key=files.key, **others)


def lock(files: Files, password: str = "secret") -> Path:
    """The key needs a password now; the file that it is in."""
    key = load_pem_private_key(files.key.read_bytes(), None)
    how = BestAvailableEncryption(password.encode())
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    place = files.key.with_name("password")
    place.write_text(f"{password}\n")
    return place


def shown_by(server: ssl.SSLContext, trust: ssl.SSLContext) -> bytes | None:
    """The certificate that a client is shown who trusts it."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = trust.wrap_bio(back, there, server_hostname="127.0.0.1")
    answering = server.wrap_bio(there, back, server_side=True)
    for end in (asking, answering):
        with pytest.raises(ssl.SSLWantReadError):
            end.do_handshake()
    asking.do_handshake()
    return asking.getpeercert(binary_form=True)


def lose(files: Files) -> Settings:
    files.certificate.unlink()
    return settings_of(files)


def be_a_folder(files: Files) -> Settings:
    return settings_of(files._replace(key=files.key.parent))


def be_no_certificate(files: Files) -> Settings:
    files.certificate.write_text("a certificate")
    return settings_of(files)


def be_no_key(files: Files) -> Settings:
    files.key.write_text("a key")
    return settings_of(files)


def name_no_key(files: Files) -> Settings:
    return Settings(tls_certificate=files.certificate)


def have_another_key(files: Files) -> Settings:
    return settings_of(Files(write_certificate(AUTHORITY, files.key.parents[1], "other").certificate, files.key))


def lock_without_password(files: Files) -> Settings:
    lock(files)
    return settings_of(files)


def lock_with_another_password(files: Files) -> Settings:
    place = lock(files)
    place.write_text("another")
    return settings_of(files, tls_key_password_file=place)


def have_an_empty_password(files: Files) -> Settings:
    place = lock(files)
    place.write_text("\nsecret")
    return settings_of(files, tls_key_password_file=place)


def have_no_authorities(files: Files) -> Settings:
    return settings_of(files, tls_client_ca=files.key)


WRONG: dict[str, tuple[Callable[[Files], Settings], str]] = {
    "no certificate": (lose, "TLS_CERTIFICATE: {certificate} cannot be read: no such file or directory"),
    "a folder": (be_a_folder, "TLS_KEY: {folder} cannot be read: is a directory"),
    "nonsense": (be_no_certificate, "TLS_CERTIFICATE: {certificate} has no certificate in PEM"),
    "nonsense for a key": (be_no_key, "TLS_KEY: {key} has no private key in PEM"),
    "no key": (name_no_key, "TLS_KEY: there is none, and no private key is in {certificate}"),
    "another key": (have_another_key, "TLS_KEY: {key} is the key of another certificate than {other}"),
    "locked": (lock_without_password, "TLS_KEY: {key} is encrypted: DIABOLO_TLS_KEY_PASSWORD_FILE has to name a file "
     "with its password"),
    "another password": (lock_with_another_password, "TLS_KEY: {key} has no private key in PEM, or the password is not "
     "its"),
    "an empty password": (have_an_empty_password, "TLS_KEY_PASSWORD_FILE: the first line of {password} is empty"),
    "no authorities": (have_no_authorities, "TLS_CLIENT_CA: {key} has no certificate in PEM"),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_files_that_cannot_be_used_are_refused_in_one_sentence(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    files = write_certificate(AUTHORITY, folder)
    damage, sentence = WRONG[fault]
    settings = damage(files)
    names = {"folder": folder, "password": folder / "password", "other": tmp_path / "certificate.pem"}
    with pytest.raises(TlsUnusable) as refusal:
        check_tls(settings)
    assert str(refusal.value) == "DIABOLO_" + sentence.format(**files._asdict(), **names)


def test_an_encrypted_key_is_opened_by_the_first_line_of_its_file(files: Files) -> None:
    settings = settings_of(files, tls_key_password_file=lock(files))
    assert shown_by(loaded(settings), trust_in(AUTHORITY))


def test_the_key_may_be_in_the_file_of_the_certificate(files: Files) -> None:
    files.certificate.write_bytes(files.key.read_bytes() + files.certificate.read_bytes())
    assert shown_by(loaded(Settings(tls_certificate=files.certificate)), trust_in(AUTHORITY))


def test_without_a_certificate_there_is_no_https() -> None:
    assert tls_options(Settings()) == {}
    check_tls(Settings())


def test_a_certificate_that_clients_would_refuse_is_served_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    check_tls(settings_of(write_certificate(AUTHORITY, tmp_path)))
    assert not caplog.records
    files = write_certificate(AUTHORITY, tmp_path, expired=True)
    check_tls(settings_of(files))
    assert caplog.messages == [f"clients will refuse the certificate in {files.certificate}: certificate has expired"]


async def test_a_renewed_certificate_is_shown_to_whoever_connects_and_a_wrong_one_to_nobody(
    files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = settings_of(files, poll_seconds=0.001)
    context, trust = loaded(settings), trust_in(AUTHORITY)
    following = asyncio.create_task(follow_certificate(settings, context))
    first = shown_by(context, trust)

    async def said(text: str) -> None:
        async with asyncio.timeout(30):
            while not any(text in message for message in caplog.messages):
                await asyncio.sleep(0)
        caplog.clear()

    await asyncio.sleep(0)
    files.key.write_text("half a k")
    await said("has no private key in PEM; the certificate that was loaded before stays")
    assert shown_by(context, trust) == first
    write_certificate(AUTHORITY, tmp_path)
    await said("has been loaded anew")
    second = shown_by(context, trust)
    assert second != first
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


def loaded(settings: Settings) -> ssl.SSLContext:
    """What uvicorn makes of the settings."""
    config = server_config(FastAPI(), settings)
    config.load()
    assert config.ssl is not None
    return config.ssl
