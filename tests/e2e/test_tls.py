"""HTTPS, by one process and by several: over real sockets, with certificates of a real authority."""

import contextlib
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import trustme

from tests.certificates import Files, trust_in, write_certificate
from tests.e2e.conftest import ROOT, Server, serving, wait_until_ready
from tests.e2e.test_workers import eventually

BODY = {"inputs": np.linspace(0, 1, 3 * 784, dtype=np.float32).reshape(3, 784).tolist()}
CONNECTIONS = 8
AUTHORITY = trustme.CA()
TRUST = trust_in(AUTHORITY)


class Secured(NamedTuple):
    """A ready server, the certificate that it has, and the settings that it was started with."""

    server: Server
    certificate: bytes
    settings: dict[str, str]

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        place = urlsplit(self.server.address)
        return place.hostname or "", place.port or 0

    @contextlib.contextmanager
    def silent(self, sent: bytes = b"") -> Iterator[socket.socket]:
        """A connection that has sent no more than this."""
        with socket.create_connection(self.place, timeout=60) as client:
            client.sendall(sent)
            yield client


@contextlib.contextmanager
def secured(models: Path, files: Files, **settings: str) -> Iterator[Secured]:
    own = {**files.settings, "log_level": "warning", **settings}
    with serving(models, **own) as server:
        assert server.address.startswith("https://")
        wait_until_ready(server.address, trust=trust_in(AUTHORITY, files))
        yield Secured(server, ssl.PEM_cert_to_DER_cert(files.certificate.read_text()), own)


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two workers"])
def place(request: pytest.FixtureRequest, shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    files = write_certificate(AUTHORITY, tmp_path_factory.mktemp("tls"))
    with secured(shipped, files, workers=request.param, receive_seconds="5") as running:
        yield running


def numbers(address: str, client: httpx.Client) -> object:
    answer = client.post(f"{address}/v1/models/fashion-linear/encode", json=BODY)
    assert answer.status_code == 200, answer.text
    return answer.json()["latents"]


def shown(place: Secured) -> set[bytes]:
    """The certificates that as many connections are shown as all workers have to take some of."""
    with contextlib.ExitStack() as stack:
        found = set()
        for _ in range(CONNECTIONS):
            plain = stack.enter_context(socket.create_connection(place.place, timeout=60))
            secure = stack.enter_context(TRUST.wrap_socket(plain, server_hostname=place.place[0]))
            assert secure.version() == "TLSv1.3"
            found.add(secure.getpeercert(binary_form=True) or b"")
        return found


def test_all_connections_are_shown_the_certificate_and_answered_as_over_http(place: Secured, server: Server) -> None:
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(httpx.Client(timeout=60))
        expected = numbers(server.address, plain)
        assert shown(place) == {place.certificate}
        for _ in range(CONNECTIONS):
            client = stack.enter_context(httpx.Client(verify=TRUST, timeout=60))
            assert numbers(place.server.address, client) == expected


def test_plain_http_is_no_request_and_harms_nobody(place: Secured) -> None:
    for _ in range(CONNECTIONS):
        with place.silent(b"GET /livez HTTP/1.1\r\nHost: diabolo\r\n\r\n") as client:
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                answer = client.recv(65536)
            assert b"HTTP" not in answer
    assert httpx.get(f"{place.server.address}/readyz", verify=TRUST).status_code == 200


def test_who_never_finishes_a_handshake_keeps_nobody_waiting_and_is_ended_in_time(place: Secured) -> None:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        TRUST.wrap_bio(back, there, server_hostname="127.0.0.1").do_handshake()
    hello = there.read()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(place.silent([b"", hello[:50], hello][number % 3])) for number in range(120)]
        for _ in range(CONNECTIONS):
            with httpx.Client(verify=TRUST, timeout=60) as client:
                numbers(place.server.address, client)
        for waiting in slow:
            with contextlib.suppress(ConnectionResetError):
                while waiting.recv(65536):
                    pass


def is_well(place: Secured, **settings: str) -> bool:
    """What the health check of the container says."""
    settings = {**settings, "port": str(place.place[1])}
    variables = {**os.environ, **{f"DIABOLO_{name.upper()}": value for name, value in settings.items()}}
    return not subprocess.run(
        ["bash", ROOT / "deploy" / "health.sh"], env=variables, timeout=60, check=False
    ).returncode


def test_the_health_check_of_the_container_sees_that_it_is_ready(place: Secured) -> None:
    assert is_well(place, **place.settings)
    assert not is_well(place), "what it does not speak is HTTP"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_renewed_certificate_is_shown_by_every_process(tmp_path: Path, workers: str) -> None:
    with secured(tmp_path, write_certificate(AUTHORITY, tmp_path), workers=workers, poll_seconds="0.1") as place:
        assert shown(place) == {place.certificate}
        renewed = write_certificate(AUTHORITY, tmp_path)
        eventually(lambda: shown(place) == {ssl.PEM_cert_to_DER_cert(renewed.certificate.read_text())})


@pytest.mark.parametrize("workers", ["1", "2"])
def test_at_the_end_neither_half_a_handshake_nor_a_client_that_has_forgotten_is_waited_for(
    tmp_path: Path, workers: str
) -> None:
    files = write_certificate(AUTHORITY, tmp_path)
    with (
        secured(tmp_path, files, workers=workers, drain_seconds="3600") as place,
        place.silent(),
        httpx.Client(verify=TRUST) as idle,
    ):
        assert idle.get(f"{place.server.address}/livez").status_code == 200
        place.server.process.terminate()
        assert place.server.process.wait(timeout=60) == 0


def test_clients_without_a_certificate_are_let_in_nowhere_where_one_is_asked_for(tmp_path: Path) -> None:
    files = write_certificate(AUTHORITY, tmp_path)
    stranger = trustme.CA()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    foreign = write_certificate(stranger, elsewhere, "stranger")
    authorities = tmp_path / "authorities.pem"
    AUTHORITY.cert_pem.write_to_path(str(authorities))
    with secured(tmp_path, files, workers="2", tls_client_ca=str(authorities)) as place:
        for trust in (TRUST, trust_in(AUTHORITY, foreign)):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{place.server.address}/livez", verify=trust)
        assert httpx.get(f"{place.server.address}/livez", verify=trust_in(AUTHORITY, files)).status_code == 200
        assert is_well(place, **place.settings), "it listens, and more cannot be told without a certificate"
