"""What clients see while a bundle's new version takes the place of the old one, twenty times."""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from benchmarks.reliability.bundles import publish, remove, shipped
from benchmarks.reliability.client import Client
from benchmarks.reliability.eyes import watching
from benchmarks.reliability.load import mixed, saturation, slept_until, steady
from benchmarks.reliability.log import Log
from benchmarks.reliability.question import Question
from benchmarks.reliability.reconstructing import reconstructions
from benchmarks.reliability.row import Check, Outcome, Row
from benchmarks.reliability.service import Service, serving
from benchmarks.reliability.tally import Tally, Verdict

__all__ = ["ROW"]

NAME, NETWORKS = "swapped", ("fashion-vae", "fashion-vanilla")
STAGED = "staged"
SWAPS, SHARE = 20, 0.5
BEFORE_SECONDS, AFTER_SECONDS = 2.0, 0.5


def measure() -> Outcome:
    """Twenty swaps under half of the load that the service can bear."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        contents = [shipped(name) for name in NETWORKS]
        versions = {version: contents[version % 2] for version in range(1, SWAPS + 2)}
        publish(versions[1], models, name=NAME)
        for version in range(2, SWAPS + 2):
            publish(versions[version], models.parent / STAGED, version=version, name=NAME)
        questions = reconstructions(versions, name=NAME)
        with serving(models, poll_seconds=0.5) as service:
            found = uvloop.run(_measure(service, questions))
        return Log.read(service.log).added_to(found)


async def _measure(service: Service, questions: list[Question]) -> Outcome:
    tally = Tally()
    client = Client(service.port, tally)
    rate = SHARE * await saturation(client, mixed(questions))
    start, spent = time.monotonic(), time.process_time()
    before, during, lasted = [], [], []
    async with steady(client, mixed(questions), rate=rate):
        for version in range(2, SWAPS + 2):
            quiet = time.monotonic()
            await slept_until(quiet + BEFORE_SECONDS)
            swap = time.monotonic()
            await asyncio.to_thread(_swap, service, version)
            for question in questions:
                question.lowest = version
            lasted.append(time.monotonic() - swap)
            await slept_until(swap + lasted[-1] + AFTER_SECONDS)
            before.append((quiet, swap))
            during.append((swap, time.monotonic()))
        cost = (time.process_time() - spent) / (time.monotonic() - start)
    await client.quiet()
    await client.close()
    calm, swapping = (Tally.joined(tally.between(*part) for part in parts) for parts in (before, during))
    return outcome(calm, swapping, tally, lasted=lasted, rate=rate, cost=cost)


def outcome(calm: Tally, swapping: Tally, whole: Tally, *, lasted: list[float], rate: float, cost: float) -> Outcome:
    """The row, from what became of the requests before and during all swaps, and of all that were ever asked."""
    failed = len(whole) - whole.count(Verdict.OK)
    ratio = swapping.percentile_ms(99) / calm.percentile_ms(99)
    return Outcome(
        setting=f"Two workers; {NETWORKS[0]} and {NETWORKS[1]} take turns as versions 1 to {SWAPS + 1} of one bundle, "
        "which tells an answer of one from one of the other. A version, written beforehand, is published beside the "
        "old one, and the old one's folder is removed once every worker answers by the new; the time of a swap is from "
        f"the publication to {AFTER_SECONDS} s after the last worker has let go of the old version, and it is compared "
        f"with the {BEFORE_SECONDS:g} s before each publication. One row as JSON, {rate:.0f} requests/s by the clock, "
        "half of what the service bears; the folder is looked at every 0.5 s. The client takes "
        f"{100 * cost:.0f} % of a core",
        checks=(
            Check(what="p99 during the swaps / before them", measured=ratio, bound=2.0),
            Check(what="requests that were not answered rightly", measured=failed, bound=0),
        ),
        table=(
            ("", "requests", "p50, ms", "p99, ms", "p99.9, ms"),
            *(
                (name, str(len(part)), *(f"{part.percentile_ms(percent):.2f}" for percent in (50, 99, 99.9)))
                for name, part in (("before the swaps", calm), ("during the swaps", swapping))
            ),
        ),
        notes=(
            f"{len(lasted)} swaps; from publication until no worker had the old version: "
            f"{statistics.median(lasted):.2f} s, {max(lasted):.2f} s at most.",
            f"Not answered rightly: {whole.shown_reasons()}.",
        ),
    )


def _swap(service: Service, version: int) -> None:
    """Every worker serves the version, and no other."""
    folder = Path(NAME) / str(version)
    (service.models.parent / STAGED / folder).rename(service.models / folder)
    with watching(service) as eyes:
        eyes.wait(f"/v2/models/{NAME}", lambda _, document: str(version) in document["versions"])
        remove(service.models, NAME, version - 1)
        eyes.wait(f"/v2/models/{NAME}", lambda _, document: document["versions"] == [str(version)])


ROW = Row(
    name="swaps",
    title="Latency while versions are swapped",
    goal="p99 <= 2x of before, no failed request, over 20 swaps",
    measure=measure,
)
