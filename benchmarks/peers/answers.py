"""Whether a server answers rightly: what is fast and wrong is not measured."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np

from benchmarks.peers.wires import Rows, Wire

__all__ = ["WrongAnswer", "check"]

RTOL, ATOL = 1e-4, 1e-5
AT_ONCE = 16


class WrongAnswer(Exception):
    """A server did not return the network's reconstruction; the text says what it did."""


def check(address: str, wire: Wire, rows: Rows, expected: Rows) -> None:
    """All rows in one request, and each in its own with 16 at a time, come back as `expected`, within float32's reach.

    Raises WrongAnswer.
    """
    with httpx.Client(base_url=address, timeout=60) as client:
        _check_one(client, wire, rows, expected)
        parts = [(rows[i : i + 1], expected[i : i + 1]) for i in range(len(rows))]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for done in [pool.submit(_check_one, client, wire, *part) for part in parts]:
                done.result()


def _check_one(client: httpx.Client, wire: Wire, rows: Rows, expected: Rows) -> None:
    request = wire.request(rows)
    try:
        answer = client.post(wire.path, content=request.body, headers=dict(request.headers))
    except httpx.HTTPError as error:
        raise WrongAnswer(f"no answer: {error!r}") from None
    if answer.status_code != httpx.codes.OK:
        raise WrongAnswer(f"status {answer.status_code}: {answer.text[:200]}")
    try:
        got = wire.rows(answer.content, answer.headers)
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise WrongAnswer(f"not to be read as rows ({error!r}): {answer.text[:200]}") from None
    if got.shape != expected.shape:
        raise WrongAnswer(f"rows of shape {got.shape}, not {expected.shape}")
    if not np.allclose(got, expected, rtol=RTOL, atol=ATOL):
        raise WrongAnswer(f"values that differ by up to {np.abs(got - expected).max():.2g}")
