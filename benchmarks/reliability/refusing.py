"""What it costs to refuse a request, on the service's side and on its client's, which share the machine."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks.reliability.client import Client
from benchmarks.reliability.load import by_the_clock, mixed
from benchmarks.reliability.question import Question
from benchmarks.reliability.service import Service, serving
from benchmarks.reliability.tally import Tally

__all__ = ["Refusing", "refusing"]

SECONDS = 4.0


class Refusing(NamedTuple):
    """Seconds of the processor for each request that is refused when its head has been read."""

    service: float
    client: float

    def told(self, *, refused: float) -> str:
        """What that means where so many are refused a second."""
        share = refused * (self.service + self.client) / (os.cpu_count() or 1)
        return (
            f"A refusal costs {1e6 * self.service:.0f} microseconds of the processor in the service, which has to take "
            f"the body all the same, and {1e6 * self.client:.0f} in the client, which has sent it, where all are "
            f"refused for the length that their heads announce, {SECONDS:g} s at the same rate. The {refused:.0f} a "
            f"second of four times saturation take {100 * share:.0f} % of the machine, which leaves "
            f"{100 * (1 - share):.0f} % for what is answered."
        )


def refusing(models: Path, questions: Sequence[Question], *, rate: float) -> Refusing:
    """Measured at so many requests a second, over bodies that are all too large."""
    smallest = min(len(question.request) for question in questions)
    with serving(models, max_body_bytes=smallest // 2) as service:
        return uvloop.run(_refusing(service, questions, rate))


async def _refusing(service: Service, questions: Sequence[Question], rate: float) -> Refusing:
    tally = Tally()
    client = Client(service.port, tally)
    spent, own = service.cpu_seconds(), time.process_time()
    await by_the_clock(client, mixed(questions), rate=rate, seconds=SECONDS)
    await client.quiet()
    costs = Refusing((service.cpu_seconds() - spent) / len(tally), (time.process_time() - own) / len(tally))
    await client.close()
    return costs
