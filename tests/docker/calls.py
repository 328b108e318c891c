"""Every operation of every bundle through the published port, in each format, and what the proxy adds or keeps away."""

import io
import json
import socket
from urllib.parse import urlsplit

import httpx
import numpy as np
from PIL import Image

__all__ = ["closed", "every_operation", "large", "request_ids", "streams"]

JSON, NPY, PNG = "application/json", "application/x-npy", "image/png"
LARGE_ROWS = 4096  # DIABOLO_MAX_ROWS: of 784 values 12.8 MB as .npy, a hundred times what the proxy's buffer holds


def every_operation(address: str) -> int:
    """Each operation of each bundle answers JSON, `.npy` and pictures, and /v2 says the same; how many answers."""
    answers = 0
    with httpx.Client(base_url=address, timeout=60) as http:
        for bundle in http.get("/v1/models").raise_for_status().json()["models"]:
            path = f"/v1/models/{bundle['name']}"
            row = http.get(f"{path}/examples/4").raise_for_status().json()["inputs"]
            picture = http.get(f"{path}/examples/4", headers={"Accept": PNG}).raise_for_status().content
            code = _post(http, f"{path}/encode", {"inputs": row}).json()["latents"]
            for operation in bundle["operations"]:
                document = _document(operation, row, code)
                assert _post(http, f"{path}/{operation}", document).json()["model"] == bundle["name"]
                answers += 1
                if operation not in ("encode",):
                    drawn = _post(http, f"{path}/{operation}", document, accept=PNG).content
                    assert Image.open(io.BytesIO(drawn)).size[0] >= bundle["input"]["image"]["width"], operation
                    answers += 1
                if operation in ("encode", "reconstruct", "denoise", "anomaly-score"):
                    for body, kind in ((_npy(row), NPY), (picture, PNG)):
                        sent = http.post(f"{path}/{operation}", content=body, headers={"Content-Type": kind})
                        assert sent.raise_for_status().json()["model"] == bundle["name"]
                        answers += 1
            score = _post(http, f"{path}/anomaly-score", {"inputs": row}).json()["scores"]
            tensor = {"name": "input", "shape": [1, len(row[0])], "datatype": "FP32", "data": row}
            asked = {"inputs": [tensor], "outputs": [{"name": "score"}]}
            inferred = http.post(f"/v2/models/{bundle['name']}/infer", json=asked).raise_for_status().json()
            assert inferred["outputs"][0]["data"] == score
            answers += 2
    return answers


def large(address: str, name: str) -> int:
    """A body and an answer that no buffer holds pass; how many bytes there and back."""
    width = httpx.get(f"{address}/v1/models/{name}").json()["input"]["size"]
    body = _npy(np.random.default_rng(0).random((LARGE_ROWS, width)))
    headers = {"Content-Type": NPY, "Accept": NPY}
    answer = httpx.post(f"{address}/v1/models/{name}/reconstruct", content=body, headers=headers, timeout=60)
    assert np.load(io.BytesIO(answer.raise_for_status().content)).shape == (LARGE_ROWS, width)
    return len(body) + len(answer.content)


def streams(address: str, name: str, *, rows: int = 20) -> int:
    """Each line of a stream is answered before the next one is sent, so nobody on the way keeps any back; how many."""
    row = httpx.get(f"{address}/v1/models/{name}/examples/4").json()["inputs"][0]
    line = json.dumps(row).encode() + b"\n"
    host, port = urlsplit(address).hostname, urlsplit(address).port
    head = (
        f"POST /v1/models/{name}/anomaly-score HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-ndjson\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection((host, port), timeout=30) as connection, connection.makefile("rb") as answer:
        connection.sendall(head.encode())
        for index in range(rows):
            connection.sendall(b"%x\r\n%b\r\n" % (len(line), line))
            assert f'"index":{index}'.encode() in _line_with(answer, b'"index"')
        connection.sendall(b"0\r\n\r\n")
        assert f'"rows":{rows}'.encode() in _line_with(answer, b'"done"')
    return rows


def closed(address: str) -> int:
    """What only those inside may ask is refused by the proxy with a problem document, however the path is written."""
    paths = ["/metrics", "/%6detrics", "/v2/repository/models/fashion-vae/unload", "/v2/repository/%6dodels/x/load"]
    for path in paths:
        answer = httpx.request("GET" if "etrics" in path else "POST", address + path)
        assert answer.status_code == 403, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["title"] == "Not through the proxy"
    return len(paths)


def request_ids(address: str) -> int:
    """A client's request id comes back; one that the service would not take is replaced by the proxy."""
    assert httpx.get(f"{address}/readyz", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    made = httpx.get(f"{address}/readyz", headers={"X-Request-ID": "not mine"}).headers["x-request-id"]
    assert made.isalnum()
    assert made != httpx.get(f"{address}/readyz").headers["x-request-id"]
    return 3


def _document(operation: str, row: list[list[float]], code: list[list[float]]) -> dict[str, object]:
    match operation:
        case "decode":
            return {"latents": code}
        case "sample":
            return {"count": 4, "seed": 7}
        case "interpolate":
            return {"space": "inputs", "start": row[0], "end": row[0][::-1], "steps": 3}
        case _:
            return {"inputs": row}


def _post(http: httpx.Client, path: str, document: object, *, accept: str = JSON) -> httpx.Response:
    return http.post(path, json=document, headers={"Accept": accept}).raise_for_status()


def _npy(rows: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(rows, np.float32))
    return buffer.getvalue()


def _line_with(answer: io.BufferedReader, part: bytes) -> bytes:
    for line in iter(answer.readline, b""):
        if part in line:
            return line
    raise AssertionError(f"the stream ended before {part!r} came")
