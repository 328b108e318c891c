"""How rows are put into a request and taken from its answer: what the servers of the benchmark understand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["BinaryTensors", "Lists", "RawFloats", "Request", "Rows", "Tensors", "Upload", "Wire"]

Rows = npt.NDArray[np.float32]
HEADER_LENGTH = "Inference-Header-Content-Length"


class Request(NamedTuple):
    """What is posted."""

    body: bytes
    headers: Mapping[str, str]


class Wire(Protocol):
    """A way to send float32 rows of shape (n, d) to `path` and to read n rows from the answer. What it cannot read
    raises ValueError, KeyError or TypeError."""

    @property
    def path(self) -> str:
        """Where requests go."""

    def request(self, rows: Rows) -> Request:
        """The rows as a body."""

    def rows(self, body: bytes, headers: Mapping[str, str]) -> Rows:
        """The rows in the body of an answer."""


@dataclass(frozen=True)
class Lists:
    """JSON, rows as lists: {"inputs": [[...]]} there, {"outputs": [[...]]} back. `bare`: the answer is the list."""

    path: str
    bare: bool = False

    def request(self, rows: Rows) -> Request:
        """The rows under `inputs`."""
        return Request(json.dumps({"inputs": rows.tolist()}).encode(), {"Content-Type": "application/json"})

    def rows(self, body: bytes, headers: Mapping[str, str]) -> Rows:  # noqa: ARG002
        """The rows under `outputs`."""
        answer = json.loads(body)
        return np.asarray(answer if self.bare else answer["outputs"], dtype=np.float32)


@dataclass(frozen=True)
class RawFloats:
    """A body that is nothing but the float32 values of rows of `width`, both ways."""

    path: str
    width: int = 784

    def request(self, rows: Rows) -> Request:
        """The values, row by row."""
        return Request(rows.astype("<f4").tobytes(), {"Content-Type": "application/octet-stream"})

    def rows(self, body: bytes, headers: Mapping[str, str]) -> Rows:  # noqa: ARG002
        """The values, by rows."""
        return np.frombuffer(body, "<f4").reshape(-1, self.width)


@dataclass(frozen=True)
class Upload(RawFloats):
    """The float32 values as the file `rows` of a form, for a server that takes no other bytes; back they come bare."""

    def request(self, rows: Rows) -> Request:
        """One part."""
        head = '--part\r\nContent-Disposition: form-data; name="rows"; filename="rows"\r\n\r\n'
        body = head.encode() + super().request(rows).body + b"\r\n--part--\r\n"
        return Request(body, {"Content-Type": "multipart/form-data; boundary=part"})


@dataclass(frozen=True)
class Tensors:
    """The Open Inference Protocol's JSON, with flat data."""

    path: str
    given: str = "input"
    wanted: str = "reconstruction"

    def request(self, rows: Rows) -> Request:
        """One input, one output."""
        tensor = {"name": self.given, "shape": rows.shape, "datatype": "FP32", "data": rows.ravel().tolist()}
        body = {"inputs": [tensor], "outputs": [{"name": self.wanted}]}
        return Request(json.dumps(body).encode(), {"Content-Type": "application/json"})

    def rows(self, body: bytes, headers: Mapping[str, str]) -> Rows:  # noqa: ARG002
        """The output that was asked for."""
        output = _named(json.loads(body)["outputs"], self.wanted)
        return np.asarray(output["data"], dtype=np.float32).reshape(output["shape"])


@dataclass(frozen=True)
class BinaryTensors:
    """The Open Inference Protocol's binary extension, both ways."""

    path: str
    given: str = "input"
    wanted: str = "reconstruction"

    def request(self, rows: Rows) -> Request:
        """A JSON header and the values behind it."""
        data = rows.astype("<f4").tobytes()
        tensor = {"name": self.given, "shape": rows.shape, "datatype": "FP32"}
        header = json.dumps(
            {
                "inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}],
                "outputs": [{"name": self.wanted, "parameters": {"binary_data": True}}],
            }
        ).encode()
        headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
        return Request(header + data, headers)

    def rows(self, body: bytes, headers: Mapping[str, str]) -> Rows:
        """The values behind the answer's header."""
        length = int(headers[HEADER_LENGTH])
        output = _named(json.loads(body[:length])["outputs"], self.wanted)
        size = output["parameters"]["binary_data_size"]
        if length + size != len(body):
            raise ValueError(f"{len(body) - length} bytes follow the header, which says {size}")
        return np.frombuffer(body, "<f4", offset=length).reshape(output["shape"])


def _named(outputs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(output for output in outputs if output["name"] == name)
