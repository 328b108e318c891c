"""How rows of the reliability benchmark are put together, without a service: what they find out reaches the goals."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import count, cycle
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.reliability import counting, cycles, idle, kills, overload_forward, overload_w2, soak, swaps
from benchmarks.reliability.bundles import shipped
from benchmarks.reliability.client import Client
from benchmarks.reliability.endurance import Soaked
from benchmarks.reliability.overload import Phase
from benchmarks.reliability.question import Question
from benchmarks.reliability.refusing import Refusing
from benchmarks.reliability.row import Outcome
from benchmarks.reliability.service import Service, Usage
from benchmarks.reliability.tally import Tally

ENDED = "worker 5 ended after 3 s with signal 9 (Killed); it is replaced\n"
ERROR = "2026-11-23 09:08:25,515 ERROR   [5] diabolo.batcher: a forward pass of encode failed\n"
NOTHING = Outcome(setting="", checks=())
USAGE = Usage(50, 9, 3)


def question() -> Question:
    return Question("", b"", lambda *_: (1, {}), {1: {}})


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    """One that does not run, has this process for its worker, and has said what must not be."""
    log = tmp_path / "service.log"
    log.write_text(ENDED + ERROR)
    monkeypatch.setattr(Service, "workers", lambda _: [os.getpid()])
    monkeypatch.setattr(Service, "wait_until_ready", lambda *_: None)
    return Service(0, os.getpid(), tmp_path / "models", log)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts others in the place of what a module uses."""

    def put(module: ModuleType, **others: Any) -> None:
        for name, other in others.items():
            monkeypatch.setattr(module, name, other)

    return put


def ever(value: object) -> Callable[..., Any]:
    return lambda *_, **__: value


def soon(value: object) -> Callable[..., Any]:
    async def later(*_: Any, **__: Any) -> Any:
        return value

    return later


def serving(service: Service) -> Callable[..., Any]:
    """As `serving` is, its bundles where those of the row are."""

    @contextmanager
    def served(models: Path, **_: Any) -> Iterator[Service]:
        log = models.parent / "service.log"
        log.write_text(service.log.read_text())
        yield Service(service.port, service.pid, models, log)

    return served


def missed(outcome: Outcome) -> list[str]:
    return [check.what for check in outcome.checks if not check.holds]


FAULTS = ["workers that ended, more or fewer than were killed", "errors in the service's log"]


def test_swaps_read_the_log(service: Service, fake: Callable[..., None]) -> None:
    fake(swaps, publish=ever(None), reconstructions=ever([]), serving=serving(service), _measure=soon(NOTHING))
    assert missed(swaps.measure()) == FAULTS


def test_cycles_read_the_log(service: Service, fake: Callable[..., None]) -> None:
    fake(cycles, publish=ever(None), questions_of=ever([]), serving=serving(service), _cycle=ever(([USAGE] * 2, True)))
    assert missed(cycles.measure()) == FAULTS


def test_a_bundle_that_is_still_held_after_its_cycle_is_a_missed_goal(
    service: Service, fake: Callable[..., None]
) -> None:
    service.log.write_text("")
    fake(cycles, publish=ever(None), questions_of=ever([]), serving=serving(service), _cycle=ever(([USAGE] * 2, False)))
    assert missed(cycles.measure()) == ["cycles after which a worker had not freed it 2 s later"]


def test_a_cycle_reads_what_is_held_once_every_worker_has_freed_what_it_had_so_far(
    service: Service, fake: Callable[..., None]
) -> None:
    fake(cycles, administer=ever(None), _infer=soon(None), was_freed=lambda _, times: times != 7)
    for number, freed in ((6, True), (7, False)):
        held, in_time = cycles._cycle(service, [], Tally(), number)
        assert (len(held), in_time) == (1, freed)


@pytest.mark.parametrize("row", [overload_w2, overload_forward])
def test_overload_reads_the_log(row: ModuleType, service: Service, fake: Callable[..., None]) -> None:
    phases = [Phase(1, 0, 1, Tally(), (0, 0), 0)] * 3
    fake(row, question=ever(question()), serving=serving(service), outcome=ever(NOTHING))
    fake(row, overload=soon((phases, Tally())))
    if row is overload_forward:
        fake(row, publish_busy=ever(shipped("fashion-linear")))
    else:
        fake(row, refusing=ever(Refusing(0, 0)))
    assert missed(row.measure()) == FAULTS


def test_what_refusals_cost_is_told_as_a_share_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    told = Refusing(service=300e-6, client=100e-6).told(refused=1000)
    assert "300 microseconds" in told
    assert told.endswith(
        "The 1000 a second of four times saturation take 20 % of the machine, which leaves 80 % for what is answered."
    )


def test_idle_connections_read_the_log(service: Service, fake: Callable[..., None]) -> None:
    fake(
        idle,
        reconstructing=ever(nullcontext((service, []))),
        idle_connections=ever(nullcontext([])),
        _round=ever(idle.Speed(1, 1, idle.CONNECTIONS)),
        _let_go=ever(None),
    )
    assert missed(idle.measure()) == FAULTS


def test_kills_are_the_only_ends_that_the_log_may_tell_of(service: Service, fake: Callable[..., None]) -> None:
    fake(
        kills,
        reconstructing=ever(nullcontext((service, []))),
        saturation=soon(1.0),
        mixed=ever(cycle([question()])),
        by_the_clock=soon(None),
        slept_until=soon(None),
        kill=ever(0),
        SECONDS=11.0,
        AFTER_SECONDS=0,
    )
    assert missed(kills.measure()) == FAULTS  # two kills
    service.log.write_text(ENDED * 2)
    assert missed(kills.measure()) == []


async def test_after_each_swap_no_earlier_version_may_answer(service: Service, fake: Callable[..., None]) -> None:
    asked, seen = question(), []
    fake(
        swaps,
        saturation=soon(1.0),
        mixed=ever(cycle([question()])),
        steady=ever(nullcontext()),
        slept_until=soon(None),
        _swap=lambda _, version: seen.append((version, asked.lowest)),
        SWAPS=3,
    )
    await swaps._measure(service, [asked])
    assert seen == [(2, 0), (3, 2), (4, 3)]
    assert asked.lowest == 4


async def soaking(service: Service, swapped: Question) -> soak.Soak:
    client = Client(service.port, Tally())
    return soak.Soak(
        service, client, cycle([question()]), [swapped], [shipped("fashion-linear")] * 2, count(2), Soaked()
    )


async def test_a_soak_lets_no_version_answer_that_is_gone(service: Service, fake: Callable[..., None]) -> None:
    asked, order = question(), []
    fake(
        soak,
        publish=lambda *_, version, **__: order.append(("published", version, asked.lowest)),
        remove=lambda *_: order.append(("removed", _[-1], asked.lowest)),
        seen_everywhere=ever(None),
    )
    one = await soaking(service, asked)
    await one._swap()
    await one._swap()
    await one.client.close()
    assert order == [("published", 2, 0), ("removed", 1, 0), ("published", 3, 2), ("removed", 2, 2)]
    assert asked.lowest == 3


async def test_a_lap_of_a_soak_notes_what_the_service_bears_its_kills_and_the_process_that_holds_what_is_read(
    service: Service, fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak.Soak, "_visit", soon(None))
    fake(
        soak,
        LAP=("kill", "kill"),
        BETWEEN_SECONDS=0,
        REST_SECONDS=0,
        saturation=soon(0.0),
        steady=ever(nullcontext()),
        kill=ever(4),
        tasks_of=ever(6),
    )
    one = await soaking(service, question())
    await one.lap()
    await one.client.close()
    assert one.soaked.bears == [0.0]  # though the load goes on at some rate
    assert (one.soaked.kills, one.soaked.endangered) == (2, 8)
    assert [(held.pid, held.tasks) for held in one.soaked.laps] == [(os.getpid(), 6)]


async def test_a_soak_that_breaks_off_in_its_first_lap_knows_its_worker_and_says_why(
    service: Service, fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lap(_: soak.Soak) -> None:
        raise TimeoutError("nothing came")

    monkeypatch.setattr(soak.Soak, "lap", lap)
    fake(soak, mixed=ever(cycle([question()])))
    soaked = await soak._soak(service, [], [], [], minutes=1)
    assert (soaked.elder, soaked.laps, soaked.broken) == (os.getpid(), [], "TimeoutError('nothing came')")


def test_a_soak_reads_the_log(service: Service, fake: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(counting.FOLDER, "")
    questions = {name: ever([]) for name in ("questions_of", "tensor_questions", "line_questions", "picture_questions")}
    fake(
        soak,
        **questions,
        path_questions=ever([]),
        publish=ever(None),
        question=ever(question()),
        serving=serving(service),
        outcome=ever(NOTHING),
        _soak=soon(Soaked(kills=2)),
    )
    assert missed(soak.measure(1)) == FAULTS
    monkeypatch.setattr(soak, "_soak", soon(Soaked(kills=1)))
    assert missed(soak.measure(1)) == FAULTS[1:]
