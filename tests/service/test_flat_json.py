"""The fast path for rows in JSON: it takes what is plain, and never reads anything otherwise than the slow one does."""

import json
import threading
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import find, given
from hypothesis import strategies as st

from service.codecs.flat_json import flat_rows
from service.codecs.lists import rows_from_json
from service.codecs.rows import RowSpec
from service.errors import ServiceError

SPEC = RowSpec(2, 3, "#/inputs")


def fast(content: bytes) -> tuple[list[list[float]], dict[str, object]] | None:
    found = flat_rows(content, "inputs", size=SPEC.size, max_rows=SPEC.max_rows)
    return None if found is None else (found.rows.tolist(), dict(found.others))


def slow(content: bytes) -> tuple[list[list[float]], dict[str, object]] | None:
    """The same by orjson and the checks of lists, or None where those refuse it."""
    try:
        document = orjson.loads(content)
        rows = rows_from_json(document.pop("inputs"), SPEC)
    except (ValueError, KeyError, TypeError, AttributeError, ServiceError):
        return None
    return rows.tolist(), document


@pytest.mark.parametrize(
    ("content", "rows", "others"),
    [
        (b'{"inputs": [[1, 2.5]]}', [[1.0, 2.5]], {}),
        (b'{"inputs": [[1, 2], [3, 4e1], [-0.0, 18446744073709551615]]}', [[1, 2], [3, 40], [0, 2.0**64]], {}),
        (b'{"inputs": [0.1, 2]}', [[float(np.float32(0.1)), 2.0]], {}),
        (b'{"alpha": 0.5, "inputs": [[1, 2]], "n": null}', [[1, 2]], {"alpha": 0.5, "n": None}),
    ],
)
def test_plain_rows_are_taken(content: bytes, rows: list[list[float]], others: dict[str, object]) -> None:
    assert fast(content) == (rows, others) == slow(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[[1, 2]]",
        b"7",
        b'"inputs"',
        b'{"latents": [[1, 2]]}',
        b'{"inputs": 1}',
        b'{"inputs": "ab"}',
        b'{"inputs": {"a": 1, "b": 2}}',
        b'{"inputs": []}',
        b'{"inputs": [[]]}',
        b'{"inputs": [1]}',
        b'{"inputs": [[1, 2, 3]]}',
        b'{"inputs": [[1, 2], [3]]}',
        b'{"inputs": [[1, 2], 3]}',
        b'{"inputs": [[[1], 2]]}',
        b'{"inputs": [[[1, 2]]]}',
        b'{"inputs": [[[1], 2], 3]}',
        b'{"inputs": [[1, 2], [3, 4], [5, 6], [7, 8]]}',
        b'{"inputs": [[1, true]]}',
        b'{"inputs": [[1, null]]}',
        b'{"inputs": [[1, "2"]]}',
        b'{"inputs": [[1, {"a": 2}]]}',
        b'{"inputs": [["a[", 2]]}',
        b'{"inputs": [[1, 1e39]]}',
        b'{"inputs": [[1, 1e400]]}',
        b'{"inputs": [[1, NaN]]}',
        b'{"inputs": [[1, 123456789012345678901234567890]]}',
        b'{"inputs": [[1, 2]], "inputs": [[3, 4]]}',
        b'{"inputs": [[1, 2]], "a": 1, "a": 2}',
        b'{"inputs": [[1, 2]], "a": [1]}',
        b'{"inputs": [[1, 2]], "a": {}}',
        b'{"inputs": [[1, 2]], "a": "["}',
        b'{"inputs": [[1, 2]]',
        b'{"inputs": [[1, 2]]} {}',
        b'\xff{"inputs": [[1, 2]]}',
    ],
)
def test_what_is_not_plain_is_left_to_the_slow_path(content: bytes) -> None:
    assert fast(content) is None


NUMBER = st.one_of(st.floats(), st.integers(), st.integers(-3, 3))
LEAF: Any = st.one_of(NUMBER, NUMBER, NUMBER, st.booleans(), st.none(), st.text("[]a,", max_size=2))
PLAIN = st.lists(st.lists(NUMBER, min_size=2, max_size=2), max_size=4)
STRANGE = st.lists(st.lists(st.one_of(LEAF, st.lists(LEAF, max_size=2)), max_size=3), max_size=4)
DOCUMENT = st.fixed_dictionaries(
    {}, optional={"inputs": st.one_of(PLAIN, STRANGE, LEAF, st.lists(NUMBER, max_size=3)), "alpha": LEAF, "maps": LEAF}
)


@given(DOCUMENT)
def test_what_is_taken_is_read_as_the_slow_path_reads_it(document: dict[str, object]) -> None:
    content = json.dumps(document).encode()
    found = fast(content)
    assert found is None or found == slow(content)


def test_the_property_above_is_about_something() -> None:
    find(DOCUMENT, lambda document: "alpha" in document and fast(json.dumps(document).encode()) is not None)


def test_a_document_that_is_refused_does_not_hold_up_the_next_one() -> None:
    assert fast(b'{"inputs": [[1, 2]], "a": {"b": [1]}}') is None
    assert fast(b'{"inputs": [[1, 2]]}') == ([[1, 2]], {})


def test_threads_read_at_the_same_time() -> None:
    contents = [orjson.dumps({"inputs": [[index, index + 1]] * 3}) for index in range(4)]
    wrong: list[int] = []

    def read(index: int) -> None:
        for _ in range(500):
            if fast(contents[index]) != ([[index, index + 1]] * 3, {}):
                wrong.append(index)

    threads = [threading.Thread(target=read, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
