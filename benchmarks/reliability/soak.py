"""`make soak`: everything at once for as long as asked. Nothing may be lost, nothing wrong, nothing left behind."""

import asyncio
import http.client
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import uvloop

from benchmarks.reliability.administration import STATE, administer
from benchmarks.reliability.bundles import publish, remove, shipped
from benchmarks.reliability.client import Client
from benchmarks.reliability.counting import COMMAND, FOLDER, tasks_of
from benchmarks.reliability.endurance import Held, Soaked, outcome
from benchmarks.reliability.eyes import seen_everywhere
from benchmarks.reliability.kills import kill
from benchmarks.reliability.lines import line_questions
from benchmarks.reliability.load import by_the_clock, mixed, saturating, saturation, steady
from benchmarks.reliability.log import Log
from benchmarks.reliability.paths import path_questions
from benchmarks.reliability.pictures import picture_questions
from benchmarks.reliability.question import JSON, NPY, Question
from benchmarks.reliability.questions import question, questions_of
from benchmarks.reliability.row import Outcome, Row
from benchmarks.reliability.service import Service, Usage, machine_cpu_seconds, serving
from benchmarks.reliability.tensors import tensor_questions
from benchmarks.serving import print_line
from bundle.operations import Operation
from bundle.read import Bundle

__all__ = ["row"]

STANDING = ("fashion-vae", "fashion-denoising", "fashion-k-sparse", "fashion-linear")
SWAPPED, CONTENTS, MOST_VERSIONS = "swapped", ("fashion-vae", "fashion-vanilla"), 2_000
VISITOR, VISIT_SECONDS = "fashion-contractive", 1.0
DEADLINE = {"Request-Timeout-Ms": "2000"}
SHARE, FRESH_EVERY = 0.3, 20
TIMES, BURST_SECONDS, AFTER_BURST_SECONDS = 1.5, 3.0, 6.0
BETWEEN_SECONDS, REST_SECONDS = 2.0, 2.0
LAP = ("swap", "overload", "visit", "kill", "swap", "kill", "unload and load", "visit", "kill")


def row(*, minutes: float) -> Row:
    """So many minutes of it."""
    return Row(
        name="soak",
        title="Soak: mixed traffic, swaps, visits, kills and overload",
        goal="nothing lost, nothing wrong, nothing leaked",
        measure=partial(measure, minutes),
        minutes=minutes,
    )


def measure(minutes: float) -> Outcome:
    """Laps of everything, until so many minutes have passed."""
    with tempfile.TemporaryDirectory() as folder:
        models, state = Path(folder) / "models", Path(folder) / STATE
        state.mkdir()
        os.environ[FOLDER] = folder
        standing = [publish(shipped(name), models) for name in STANDING]
        contents = [shipped(name) for name in CONTENTS]
        publish(contents[1], models, version=1, name=SWAPPED)
        versions = {version: contents[version % 2] for version in range(1, MOST_VERSIONS)}
        swapped = [
            question(versions, operation, count=count, name=SWAPPED, media=media, fields=DEADLINE)
            for operation in (Operation.RECONSTRUCT, Operation.ENCODE)
            for media in ((JSON, JSON), (NPY, NPY))
            for count in (1, 4)
        ]
        kinds = (questions_of, tensor_questions, line_questions, picture_questions, path_questions)
        plain = [one for kind in kinds for bundle in standing for one in kind(bundle, fields=DEADLINE)]
        with serving(models, command=COMMAND, state_dir=state, poll_seconds=0.5) as service:
            soaked = uvloop.run(_soak(service, plain, swapped, contents, minutes=minutes))
        log = Log.read(service.log)  # what was said at the end too
    for fault in log.faults:
        print_line(fault)
    found = outcome(
        soaked,
        minutes=minutes,
        setting=f"Two workers; {', '.join(STANDING)} and a bundle that is swapped are asked for every operation: 1 to "
        "16 rows as JSON, .npy and tensors of the Open Inference Protocol, pictures as PNG and JPEG, answered as PNG "
        "too, streams of 3 and 60 lines that come in pieces, samples of given seeds, and interpolations, "
        f"{100 * SHARE:.0f} % of what the service bears when the lap begins, with a deadline of 2 s, one request in "
        f"{FRESH_EVERY} over a connection of its own. "
        f"Meanwhile again and again: a new version takes the place of the old one; {BURST_SECONDS:g} s of {TIMES:g} "
        "times what the service bears; another bundle is published, asked and removed, or unloaded, loaded and asked; "
        "SIGKILL for the younger worker, so that the elder one lives through everything. Each lap ends with a rest "
        "and one more visit, after which what the processes hold is read.",
    )
    return log.added_to(found, kills=soaked.kills)


async def _soak(
    service: Service, plain: list[Question], swapped: list[Question], contents: list[Bundle], *, minutes: float
) -> Soaked:
    soaked = Soaked(elder=service.workers()[0])
    client = Client(service.port, soaked.tally, fresh_every=FRESH_EVERY)
    soak = Soak(service, client, mixed([*plain, *swapped * 3]), swapped, contents, count(2), soaked)
    start, spent, own = time.monotonic(), time.process_time(), service.cpu_seconds()
    machine = machine_cpu_seconds()
    try:
        while time.monotonic() - start < 60 * minutes:
            await soak.lap()
            print_line(f"minute {(time.monotonic() - start) / 60:.1f}, {soaked.progress(client.surprises)}")
    except (TimeoutError, RuntimeError, OSError, http.client.HTTPException) as error:
        soaked.broken = f"{error!r:.300}"
    soaked.seconds = time.monotonic() - start
    soaked.cost = (time.process_time() - spent) / soaked.seconds
    ours = time.process_time() - spent + service.cpu_seconds() - own
    soaked.others = (machine_cpu_seconds() - machine - ours) / soaked.seconds / (os.cpu_count() or 1)
    soaked.surprises = client.surprises
    await client.close()
    return soaked


@dataclass
class Soak:
    """A service under steady load, and what disturbs it. `bears` is in requests a second."""

    service: Service
    client: Client
    order: Iterator[Question]
    swapped: list[Question]
    contents: list[Bundle]
    versions: Iterator[int]
    soaked: Soaked
    bears: float = 0.0

    async def lap(self) -> None:
        """Each disturbance in its turn; what is held at rest afterwards is noted. What the service bears is measured
        anew each time: other programs of the machine come and go."""
        start = time.monotonic()
        self.soaked.bears.append(await saturation(self.client, self.order))
        self.bears = max(1.0, self.soaked.bears[-1])
        self.soaked.bursts.append((start, time.monotonic()))
        disturb = {
            "swap": self._swap,
            "overload": self._overload,
            "visit": self._visit,
            "kill": self._kill,
            "unload and load": self._unload_and_load,
        }
        async with steady(self.client, self.order, rate=SHARE * self.bears, seed=round(1000 * start)):
            for what in LAP:
                await disturb[what]()
                self.soaked.done[what] += 1
                await asyncio.sleep(BETWEEN_SECONDS)
        await self.client.quiet()
        self.client.rest()
        await self._visit()  # whose leaving gives back what was freed: else what is held follows the lap's load
        await asyncio.sleep(REST_SECONDS)
        elder = self.service.workers()[0]
        tasks = await asyncio.to_thread(tasks_of, elder, self.service.models.parent)
        self.soaked.laps.append(Held(Usage.of(self.service.pid), Usage.of(elder), tasks, elder))

    async def _swap(self) -> None:
        version = next(self.versions)

        def swap() -> None:
            path = f"/v2/models/{SWAPPED}"
            publish(self.contents[version % 2], self.service.models, version=version, name=SWAPPED)
            seen_everywhere(self.service, path, lambda _, document: str(version) in document["versions"])
            remove(self.service.models, SWAPPED, version - 1)
            seen_everywhere(self.service, path, lambda _, document: document["versions"] == [str(version)])

        await asyncio.to_thread(swap)
        for asked in self.swapped:
            asked.lowest = version

    async def _overload(self) -> None:
        start = time.monotonic()
        rate, seed = TIMES * self.bears, round(1000 * start)
        await by_the_clock(self.client, self.order, rate=rate, seconds=BURST_SECONDS, seed=seed)
        await asyncio.sleep(AFTER_BURST_SECONDS)
        self.client.rest()
        self.soaked.bursts.append((start, time.monotonic()))

    async def _visit(self) -> None:
        bundle = await asyncio.to_thread(publish, shipped(VISITOR), self.service.models)
        await asyncio.to_thread(self._wait_for_visitor, 200)
        await self._ask_visitor(bundle)
        remove(self.service.models, VISITOR, 1)
        await asyncio.to_thread(self._wait_for_visitor, 404)

    async def _unload_and_load(self) -> None:
        bundle = await asyncio.to_thread(publish, shipped(VISITOR), self.service.models)
        await asyncio.to_thread(self._wait_for_visitor, 200)
        for verb in ("unload", "load"):
            await asyncio.to_thread(administer, self.service, VISITOR, verb)
        await self._ask_visitor(bundle)
        remove(self.service.models, VISITOR, 1)
        await asyncio.to_thread(self._wait_for_visitor, 404)

    def _wait_for_visitor(self, status: int) -> None:
        seen_everywhere(self.service, f"/v2/models/{VISITOR}", lambda found, _: found == status)

    async def _ask_visitor(self, bundle: Bundle) -> None:
        client = Client(self.service.port, self.soaked.tally)
        questions = mixed(questions_of(bundle, fields=DEADLINE))
        await saturating(client, questions, at_once=2, seconds=VISIT_SECONDS)
        self.client.surprises += client.surprises
        await client.close()

    async def _kill(self) -> None:
        self.soaked.endangered += kill(self.service, self.client, self.service.workers()[-1])
        self.soaked.kills += 1
        await asyncio.to_thread(self.service.wait_until_ready, 2)
