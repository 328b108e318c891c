"""Rows that wait for a bundle have so many bytes at most as the settings say, however few they are."""

import asyncio
from pathlib import Path

from service.errors import Overloaded
from tests.service.programs import Program
from tests.service.serving import ROWS, assert_problem, serving

BODY = {"inputs": ROWS}
BYTES = 4 * sum(map(len, ROWS))


async def test_who_comes_when_so_many_bytes_wait_is_refused(models: Path) -> None:
    async with serving(models, Program(), max_pending_bytes=2 * BYTES - 1) as served, asyncio.timeout(30):
        served.program.hold()
        first = asyncio.create_task(served.post("tiny/encode", json=BODY))
        await served.program.entered()
        try:
            assert_problem(await served.post("tiny/encode", json=BODY), Overloaded)
        finally:
            served.program.release()
        assert (await first).status_code == 200
        assert (await served.post("tiny/encode", json=BODY)).status_code == 200
