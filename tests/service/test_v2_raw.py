"""Raw tensors of the Open Inference Protocol: large ones are read on a thread, and none is copied without need."""

import json
import threading
from typing import Any

import numpy as np
import pytest

from bundle.calibration import Floats
from service.api.v2 import routes
from service.api.v2.tensors import Message, read_message, rows_from
from service.codecs.rows import RowSpec
from tests.service.serving import ROWS, Served

HEADER = "Inference-Header-Content-Length"
SPEC = RowSpec(4, 10, "#/inputs/0/data")


def raw(rows: list[list[float]], *, dtype: str = "<f4", datatype: str = "FP32", json_bytes: int = 200) -> bytes:
    """A body whose JSON has so many bytes."""
    array = np.asarray(rows, dtype)
    parameters = {"binary_data_size": array.nbytes}
    tensor = {"name": "input", "shape": list(array.shape), "datatype": datatype, "parameters": parameters}
    return json.dumps({"inputs": [tensor]}).encode().ljust(json_bytes) + array.tobytes()


@pytest.mark.parametrize(
    ("most_json", "most_raw", "thread"),
    [(199, 10_000, "reader_0"), (200, 31, "reader_0"), (200, 32, "MainThread")],
    ids=["much JSON before them", "large tensors", "neither"],
)
async def test_large_ones_are_read_on_a_thread_and_come_out_the_same(
    served: Served, monkeypatch: pytest.MonkeyPatch, most_json: int, most_raw: int, thread: str
) -> None:
    path, headers = "/v2/models/tiny/infer", {HEADER: "200"}
    bodies = [raw(ROWS), raw([[0, 128, 200, 255]] * 2), raw([[np.nan] * 4] * 2)]
    here = [(await served.client.post(path, content=body, headers=headers)).json() for body in bodies]
    threads: list[str] = []

    def noted(message: Message, spec: RowSpec) -> Floats:
        threads.append(threading.current_thread().name)
        return rows_from(message, spec)

    monkeypatch.setattr(routes, "LARGE_BODY_BYTES", most_json)
    monkeypatch.setattr(routes, "LARGE_RAW_BYTES", most_raw)
    monkeypatch.setattr(routes, "rows_from", noted)
    there = [(await served.client.post(path, content=body, headers=headers)).json() for body in bodies]
    assert threads == [thread] * 3
    assert there == here


@pytest.mark.parametrize("padding", range(4))
def test_float32_is_taken_as_it_is_where_it_lies_as_numbers_do(padding: int) -> None:
    content = raw(ROWS, json_bytes=200 + padding)
    rows = rows_from(read_message(content, header_length=str(200 + padding)), SPEC)
    assert rows.tolist() == ROWS
    assert rows.dtype == np.float32
    assert rows.flags.aligned
    assert rows.flags.c_contiguous
    taken = np.shares_memory(rows, np.frombuffer(content, np.uint8))
    assert taken is (padding == 0)
    assert not (taken and rows.flags.writeable), "others have the same bytes"


@pytest.mark.parametrize(("datatype", "dtype"), [("FP16", "<f2"), ("FP64", "<f8"), ("INT8", "<i1")])
def test_other_numbers_become_float32(datatype: str, dtype: str) -> None:
    content = raw([[0, 1, 2, 3]], dtype=dtype, datatype=datatype)
    rows: Any = rows_from(read_message(content, header_length="200"), SPEC)
    assert (rows.dtype, rows.tolist()) == (np.float32, [[0, 1, 2, 3]])
