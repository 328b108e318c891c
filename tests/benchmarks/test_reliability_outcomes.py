"""What the reliability benchmark makes of its measurements: each goal is missed where it should be, and the page says
all."""

import importlib
import io
import json
import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reliability.__main__ import ROWS, plain
from benchmarks.reliability.cycles import growth, span, was_freed
from benchmarks.reliability.eyes import holders
from benchmarks.reliability.idle import beside
from benchmarks.reliability.kills import outcome as kills_outcome
from benchmarks.reliability.overload import Phase
from benchmarks.reliability.overload import outcome as overload_outcome
from benchmarks.reliability.page import page, write
from benchmarks.reliability.row import Check, Outcome, Row
from benchmarks.reliability.service import Service, Usage, machine_cpu_seconds
from benchmarks.reliability.tally import Tally, Verdict
from service.settings import Settings


def tally(*requests: tuple[float, float, Verdict]) -> Tally:
    found = Tally()
    for due, seconds, verdict in requests:
        found.add(due, seconds, verdict)
    return found


def test_connections_are_found_by_the_process_that_holds_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            with accepted:
                assert holders([os.getpid()], port) == {client.getsockname()[1]: os.getpid()}
            assert holders([os.getpid()], port) == {}


def test_speed_counts_against_the_rounds_around_it() -> None:
    # The machine becomes twice as slow after the first pair, and the ratio stays.
    assert beside([100, 100, 50, 50], [90, 67.5, 45]) == pytest.approx(0.9)


def test_growth_is_that_of_the_worker_that_grew_more() -> None:
    cycles = [[Usage(100 + cycle, 10, 3), Usage(200, 10, 3)] for cycle in range(30)]
    assert growth(cycles, "memory") == pytest.approx(20)
    assert growth([workers[::-1] for workers in cycles], "memory") == pytest.approx(20)
    assert growth(cycles, "files") == 0


def test_a_single_reading_of_memory_counts_wherever_it_stands() -> None:
    held = [[Usage(100, 10, 3), Usage(200, 10, 3)] for _ in range(30)]
    assert span(held) == 0
    held[15] = [Usage(100, 10, 3), Usage(214, 10, 3)]
    assert growth(held, "memory") == 0
    assert span(held) == 14
    assert span([workers[::-1] for workers in held]) == 14


def test_memory_is_read_once_every_worker_has_given_back_what_it_had(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("INFO retiring a/1\nINFO a/1 has been freed\nINFO retiring a/1\n")
    assert was_freed(log, 1, seconds=0)
    assert not was_freed(log, 2, seconds=0)


def states(outcome: Outcome) -> dict[str, bool]:
    return {check.what: check.holds for check in outcome.checks}


def test_processor_time_counts_for_a_process_and_for_the_machine(tmp_path: Path) -> None:
    service = Service(0, os.getpid(), tmp_path, tmp_path / "log")
    own, machine = service.cpu_seconds(), machine_cpu_seconds()
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
    assert service.cpu_seconds() - own >= 0.08
    assert machine_cpu_seconds() - machine >= 0.08


def test_kills_may_lose_what_was_under_way_and_nothing_else() -> None:
    usage = Usage(50, 9, 3)
    found, answered = tally((0, 1, Verdict.LOST), (0, 1, Verdict.OK)), tally((0, 1, Verdict.OK))

    def outcome(endangered: list[int], surprises: int) -> list[bool]:
        return list(
            states(
                kills_outcome(
                    answered, found, endangered=endangered, surprises=surprises, rate=1, supervisor=(usage, usage)
                )
            ).values()
        )

    assert outcome([1, 0], 0) == [True, True, True, True]
    assert outcome([0, 0], 0)[0] is False
    assert outcome([1, 0], 1)[1] is False
    found.add(0, 1, Verdict.LATE)
    assert outcome([1, 0], 0)[2] is False


SETTINGS = Settings(workers=2, max_body_bytes=1, max_bodies_bytes=10**7, max_pending_rows=4096, max_pending_bytes=10**9)


def phase(times: float, start: float, *requests: tuple[float, float, Verdict]) -> Phase:
    return Phase(times, start, start + 10, tally(*requests), (100, 100), 0.1)


CALM = phase(0.5, 0, *((i, 0.1, Verdict.OK) for i in range(10)))
OVER = phase(4, 10, *((10 + i, 0.5, Verdict.OK) for i in range(10)), *((11, 0.1, Verdict.REFUSED),) * 30)
AFTER = phase(0.5, 20, (21, 1.0, Verdict.REFUSED), *((22 + i, 0.15, Verdict.OK) for i in range(8)))


def overloaded(*phases: Phase, settings: Settings = SETTINGS, before: Tally | None = None) -> Outcome:
    whole = Tally.joined([before or Tally(), *(phase.tally for phase in phases)])
    return overload_outcome(phases, whole, setting="", settings=settings, row_bytes=1000)


def missed_in(over: Phase, *, calm: Phase = CALM, after: Phase = AFTER) -> list[str]:
    return [what for what, holds in states(overloaded(calm, over, after)).items() if not holds]


def test_overload_is_judged_by_goodput_latency_memory_and_recovery() -> None:
    assert missed_in(OVER) == []

    late = phase(4, 10, *((10 + i, 1.5, Verdict.OK) for i in range(10)))._replace(memory=(100, 150))
    slow = phase(0.5, 20, (23, 1.0, Verdict.REFUSED), *((22 + i, 0.9, Verdict.OK) for i in range(8)))
    assert missed_in(late, after=slow) == [
        "goodput at 4 times saturation / its peak",
        "asked for then / peak of goodput",
        "p99 of what was accepted then",
        "of what was accepted then, answered within the deadline",
        "memory, most in the second half of the overload / in the first",
        "p99 from 2 s after on / before it",
        "requests not answered from then on",
    ]


@pytest.mark.parametrize(("seconds", "missed"), [(0.2, 1), (1.2, 2)])
def test_requests_that_were_accepted_and_then_run_out_of_time_are_not_within_the_deadline(
    seconds: float, missed: int
) -> None:
    """Whether that is said before their deadline or after it."""
    over = OVER._replace(tally=Tally.joined([OVER.tally, tally((11, seconds, Verdict.LATE))]))
    assert (
        missed_in(over)
        == [
            "p99 of what was accepted then",
            "of what was accepted then, answered within the deadline",
        ][-missed:]
    )


def test_a_service_that_answers_nothing_reaches_no_goal_of_overload() -> None:
    nothing = [phase(times, 0, (5, 0.1, Verdict.REFUSED)) for times in (0.5, 4, 0.5)]
    assert len(missed_in(nothing[1], calm=nothing[0], after=nothing[2])) == 6


@pytest.mark.parametrize(("grown", "holds"), [(56, True), (57, False)])
def test_memory_that_overload_takes_is_bounded_by_what_the_settings_allow(grown: float, holds: bool) -> None:
    """Twice what large bodies, 10 MB, and waiting rows, 4.096 MB, may have in each of two workers."""
    found = missed_in(OVER._replace(memory=(100 + grown, 100 + grown)))
    assert found == ([] if holds else ["memory, most at any time - most at half load before anything was too much"])


@pytest.mark.parametrize("verdict", [Verdict.LOST, Verdict.WRONG])
def test_what_is_lost_or_wrong_before_the_first_phase_counts_too(verdict: Verdict) -> None:
    found = states(overloaded(CALM, OVER, AFTER, before=tally((0, 1, verdict))))
    assert [what for what, holds in found.items() if not holds] == ["requests lost or wrong at any time"]


def test_rows_that_wait_have_no_more_memory_than_their_bytes_may() -> None:
    settings = SETTINGS.model_copy(update={"max_pending_bytes": 10**6})
    (bound,) = [check.bound for check in overloaded(CALM, OVER, AFTER, settings=settings).checks if check.unit == "MB"]
    assert bound == pytest.approx(44)


def outcome_of(measured: float) -> Outcome:
    checks = (Check(what="p99", measured=measured, bound=2.0, unit="ms"),)
    return Outcome(setting="Two workers", checks=checks, table=(("a", "b"), ("1", "2")), notes=("A note.",))


def test_the_page_shows_every_figure_with_its_goal_command_and_machine(tmp_path: Path) -> None:
    row = Row(name="swaps", title="Swaps", goal="p99 <= 2x", measure=lambda: outcome_of(1.5))
    results = {
        "swaps": plain(row, row.measure(), seconds=3, load=0.5),
        "kills": plain(row, outcome_of(2.5), seconds=3, load=0.5),
    }
    write(results, tmp_path)
    assert json.loads((tmp_path / "reliability.json").read_text()) == json.loads(json.dumps(results))
    text = (tmp_path / "reliability.md").read_text()
    assert text == page(results)
    for shown in (
        "[Swaps](#swaps) | p99 <= 2x | p99: 1.5 ms | holds |",
        "p99: 2.5 ms | **missed** |",
        "| p99 | 2.5 ms | at most 2 ms | **missed** |",
        "- A note.",
        "| 1 | 2 |",
        "`python -m benchmarks.reliability swaps`, 3 s",
        f"{os.cpu_count()} CPU cores",
        "uvicorn ",
    ):
        assert shown in text


def test_a_page_without_results_can_be_written(tmp_path: Path) -> None:
    write({}, tmp_path)
    assert (tmp_path / "reliability.md").read_text().startswith("# Reliability")


@pytest.mark.parametrize("name", ROWS)
def test_every_row_has_a_file_and_the_name_of_it(name: str) -> None:
    module = importlib.import_module(f"benchmarks.reliability.{name}")
    assert name.replace("_", "-") == module.ROW.name


def test_npy_answers_are_read_with_their_version() -> None:
    from benchmarks.reliability.questions import _read_npy

    buffer = io.BytesIO()
    np.save(buffer, np.array([[1, 2]], np.float32))
    version, arrays = _read_npy(buffer.getvalue(), {"diabolo-version": "7"})
    assert version == 7
    assert arrays["scores"].tolist() == [[1, 2]]
