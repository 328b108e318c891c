"""A queue that is asked for twice what can be done: it answers about as much as it can, and little of that too late."""

import asyncio
import math
from collections.abc import Callable

import numpy as np
import pytest

from bundle.operations import Method
from service.engine.pace import Pace
from service.engine.tally import Tally
from service.engine.timeline import Stage, Timeline
from service.engine.waiting import Entry, Queue

MOST = 256
DEADLINE = 1.0
SECONDS = 10.0


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("seconds", [lambda _: 0.1, lambda rows: 0.002 * rows], ids=["by pass", "by row"])
async def test_twice_what_can_be_done_is_half_answered(rows: int, seconds: Callable[[int], float]) -> None:
    now, asked = 0.0, 0
    in_time = late = 0
    pace, timeline, waiting = Pace({n: seconds(n) for n in (1, MOST)}), Timeline(), Stage("queue")
    queue = Queue(max_rows=10**9, max_bytes=10**9, max_batch_rows=MOST, pace=pace, clock=lambda: now, tally=Tally())
    loop, sent = asyncio.get_running_loop(), np.zeros((rows, 1), np.float32)
    most_a_second = MOST / seconds(MOST)
    interval = rows / (2 * most_a_second)
    entries: list[Entry] = []
    while now < SECONDS:
        while asked * interval <= now:
            future, deadline = loop.create_future(), asked * interval + DEADLINE
            entries.append(Entry(Method.ENCODE, sent, future, deadline, timeline, waiting))
            queue.entries.append(entries[-1])
            asked += 1
        if not (batch := queue.take()):
            now = math.nextafter(max(now, asked * interval), math.inf)
            continue
        taken = sum(len(entry.rows) for entry in batch)
        now += seconds(taken)
        pace.observe(taken, seconds(taken))
        for entry in batch:
            in_time += len(entry.rows) * (entry.deadline is not None and now <= entry.deadline)
            late += len(entry.rows) * (entry.deadline is not None and now > entry.deadline)
            entry.future.set_result(())
    for entry in entries:
        if not entry.future.cancel():
            entry.future.exception()
    assert in_time > 0.8 * most_a_second * SECONDS
    assert late < 0.05 * in_time
