"""Hostile bytes where HTTP belongs: no failure, no hang, nobody else hurt, and nothing in a body becomes a request."""

import re
import socket
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import strategies as st

from tests.fuzz.budget import damaged, fuzzed
from tests.fuzz.served import running

PATIENCE = 30.0
ANSWERS_AT_ONCE = 0.02
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
HOST = b"Host: diabolo\r\n"
BODY = b'{"inputs":[[0,0,0,0]]}'
ENCODE = b"POST /v1/models/vae/encode HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = ENCODE + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
PIECES = ENCODE + CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
STREAM = ENCODE + b"Content-Type: application/x-ndjson\r\n" + CHUNKED + b"a\r\n[0,0,0,0]\n\r\n0\r\n\r\n"
PLAIN = b"GET /v1/models/vae HTTP/1.1\r\n" + HOST + b"\r\n"
V2 = (
    b"POST /v2/models/vae/infer HTTP/1.1\r\n"
    + HOST
    + b"Inference-Header-Content-Length: 9\r\nContent-Length: 2\r\n\r\n{}"
)
REQUESTS = (WHOLE, PIECES, STREAM, PLAIN, V2)
FRAGMENTS = (
    b"\0",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"0\r\n\r\n",
    b"-1",
    b"ffffffffffffffff\r\n",
    b"10000000000000000\r\n",
    b"5;a=b\r\n",
    b"99999999999999999999",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"X-Request-ID: \xff\r\n",
    b"Request-Timeout-Ms: 1\r\n",
    b"Accept: ;q=\r\n",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"http://diabolo/livez",
    b"*",
    b"%00",
    b"%",
    b"%zz%ff",
    b"?%ff=%",
    b"//",
    b"/../",
    b"#",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT ",
    b"HEAD ",
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    with running(tmp_path_factory.mktemp("http")) as url:
        found = httpx.URL(url)
        assert found.port is not None
        yield found.host, found.port


@pytest.fixture(scope="module")
def neighbour(address: tuple[str, int]) -> Iterator[httpx.Client]:
    """A client that keeps its connection."""
    with httpx.Client(base_url=f"http://{address[0]}:{address[1]}") as client:
        yield client


def answers(address: tuple[str, int], content: bytes) -> bytes:
    """All that is answered to these bytes, until the service or this client has ended the connection."""
    received = b""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        try:
            connection.sendall(content)
            connection.settimeout(ANSWERS_AT_ONCE)
            try:
                while piece := connection.recv(2**16):
                    received += piece
                return received
            except TimeoutError:  # the service waits for more
                connection.settimeout(PATIENCE)
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(2**16):
                received += piece
        except (ConnectionResetError, BrokenPipeError):  # it did not take all of it
            pass
    return received


@fuzzed(60, data=st.data(), requests=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3))
def test_damaged_requests(
    data: st.DataObject, requests: list[bytes], address: tuple[str, int], neighbour: httpx.Client
) -> None:
    content = data.draw(damaged(b"".join(requests), FRAGMENTS))
    statuses = [int(status) for status in STATUS.findall(answers(address, content))]
    assert all(status < 500 for status in statuses), statuses
    assert neighbour.get("/livez").status_code == 200


SMUGGLED = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
FRAMINGS = (
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(SMUGGLED),
    b"Content-Length: %d, 0\r\n" % len(SMUGGLED),
    b"Content-Length: +5\r\n",
    b"Content-Length: 0x5\r\n",
    b"Content-Length : 5\r\n",
    b"Content-Length:\r\n 5\r\n",
    b"Transfer-Encoding: identity, chunked\r\nContent-Length: 5\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    b"Transfer-Encoding:\x0bchunked\r\n",
    b"X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
)


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_may_be_the_body_of_a_request_is_never_another(
    framing: bytes, address: tuple[str, int], neighbour: httpx.Client
) -> None:
    """Whoever stands in front may have read its length in the other way."""
    for body in (SMUGGLED, b"0\r\n\r\n" + SMUGGLED):
        received = answers(address, ENCODE + framing + b"\r\n" + body)
        assert b"smuggled" not in received, received
        assert b" 500 " not in received
    assert neighbour.get("/livez").status_code == 200


CHUNKS = (
    b"+16",
    b"0x16",
    b"-1",
    b" 16",
    b"16 16",
    b"1_6",
    b"",
    b"g",
    b"ffffffffffffffff",
    b"1" * 100,
    b"16\n",
    b"16\0",
)


@pytest.mark.parametrize("size", CHUNKS)
def test_a_chunk_of_no_length_ends_its_request(size: bytes, address: tuple[str, int]) -> None:
    received = answers(address, ENCODE + CHUNKED + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n" + SMUGGLED)
    assert b"smuggled" not in received, received
    assert all(int(status) == 400 for status in STATUS.findall(received)), received


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/v1/models/%zz", 404),
        (b"/v1/models/%00", 404),
        (b"/v1/models/%ff%fe", 404),
        (b"/v1/models/" + b"a" * 10_000, 404),
        (b"/v1/models/../../livez", 404),
        (b"//livez", 404),
        (b"/livez?%ff=%&&&=", 200),
        (b"/livez#a", 200),
        (b"http://diabolo/livez", 200),
        (b"http://elsewhere/livez", 200),
        (b"*", 404),
        (b"livez", 400),
        (b"/a b", 400),
        (b"/\0", 400),
    ],
)
def test_targets_are_paths_or_refused(target: bytes, status: int, address: tuple[str, int]) -> None:
    received = answers(address, b"GET " + target + b" HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    assert [int(found) for found in STATUS.findall(received)] == [status], received[:500]


def test_http_1_0_is_answered_and_its_connection_ended(address: tuple[str, int]) -> None:
    received = answers(address, WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert STATUS.findall(received) == [b"200"]
    assert b'"latents"' in received


@pytest.mark.parametrize("count", [100, 2000])
def test_many_fields_are_read_or_refused(count: int, address: tuple[str, int]) -> None:
    fields = b"".join(b"X-%d: %s\r\n" % (index, b"y" * 60) for index in range(count))
    received = answers(address, PLAIN[:-2] + fields + b"Connection: close\r\n\r\n")
    assert STATUS.findall(received) in ([b"200"], [b"431"], []), received[:200]
