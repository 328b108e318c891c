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
from benchmarks.reliability.cycles import growth as growth_of_cycles
from benchmarks.reliability.endurance import Held, Soaked, growth
from benchmarks.reliability.endurance import outcome as soak_outcome
from benchmarks.reliability.eyes import holders
from benchmarks.reliability.idle import beside
from benchmarks.reliability.kills import outcome as kills_outcome
from benchmarks.reliability.overload import Phase
from benchmarks.reliability.overload import outcome as overload_outcome
from benchmarks.reliability.page import page, write
from benchmarks.reliability.row import Check, Outcome, Row
from benchmarks.reliability.service import Service, Usage, machine_cpu_seconds
from benchmarks.reliability.tally import Tally, Verdict


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
    assert growth_of_cycles(cycles, "memory") == pytest.approx(20)
    assert growth_of_cycles([workers[::-1] for workers in cycles], "memory") == pytest.approx(20)
    assert growth_of_cycles(cycles, "files") == 0


def held(memory: float) -> Held:
    return Held(Usage(50, 9, 3), Usage(memory, 20, 4), 6)


def test_growth_of_a_soak_leaves_the_first_laps_out() -> None:
    laps = [held(memory) for memory in (10, 100, 110, 120, 130, 140, 150, 160)]
    assert growth(laps, lambda lap: lap.elder.memory) == 150 - 110
    assert growth([held(1), held(4)], lambda lap: lap.elder.memory) == 0 + 0
    assert growth([held(1)], lambda lap: lap.elder.memory) == 0


def states(outcome: Outcome) -> dict[str, bool]:
    return {check.what: check.holds for check in outcome.checks}


def test_a_soak_misses_by_one_wrong_answer_or_one_surprise() -> None:
    soaked = Soaked(laps=[held(100)] * 4, bursts=[(10, 20)])
    soaked.tally.add(15, 1, Verdict.REFUSED)
    assert all(states(soak_outcome(soaked, minutes=1, tracebacks=0, setting="")).values())

    soaked.tally.add(25, 1, Verdict.REFUSED)
    soaked.tally.add(25, 1, Verdict.WRONG)
    soaked.surprises = 1
    missed = [
        what for what, holds in states(soak_outcome(soaked, minutes=1, tracebacks=1, setting="")).items() if not holds
    ]
    assert missed == [
        "of these, not under way on a worker that was killed",
        "wrong answers",
        "requests refused while there was no overload",
        "tracebacks in the service's log",
    ]


def test_the_share_that_other_programs_took_is_told_and_excuses_no_refusal() -> None:
    soaked = Soaked(laps=[held(100)] * 4, others=0.4)
    soaked.tally.add(25, 1, Verdict.REFUSED)
    outcome = soak_outcome(soaked, minutes=1, tracebacks=0, setting="")
    assert states(outcome)["requests refused while there was no overload"] is False
    assert "other programs 40 % of the machine" in outcome.setting


def test_processor_time_counts_for_a_process_and_for_the_machine(tmp_path: Path) -> None:
    service = Service(0, os.getpid(), tmp_path, tmp_path / "log")
    own, machine = service.cpu_seconds(), machine_cpu_seconds()
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
    assert service.cpu_seconds() - own >= 0.08
    assert machine_cpu_seconds() - machine >= 0.08


def test_a_soak_that_breaks_off_misses_and_says_when_and_why() -> None:
    soaked = Soaked(laps=[held(100)], broken="TimeoutError('after 120 s')", seconds=90)
    outcome = soak_outcome(soaked, minutes=60, tracebacks=0, setting="")
    assert [what for what, holds in states(outcome).items() if not holds] == ["broken off before its time"]
    assert "Broken off after 1.5 minutes: TimeoutError('after 120 s')." in outcome.notes


def test_what_a_soak_has_found_so_far_is_in_a_line() -> None:
    soaked = Soaked(laps=[held(100)], endangered=3)
    soaked.tally.add(25, 1, Verdict.WRONG, "a wrong number")
    line = soaked.progress(surprises=2)
    for shown in ("1 laps", "0 ok, 0 refused, 0 lost, 1 wrong", "3 under way at kills, 2 lost besides", "memory=100"):
        assert shown in line
    assert line.endswith("1 x wrong: a wrong number")


def test_kills_may_lose_what_was_under_way_and_nothing_else() -> None:
    usage = Usage(50, 9, 3)
    found = tally((0, 1, Verdict.LOST), (0, 1, Verdict.OK))

    def outcome(endangered: list[int], surprises: int) -> list[bool]:
        return list(
            states(
                kills_outcome(
                    found, endangered=endangered, surprises=surprises, reasons="", rate=1, supervisor=(usage, usage)
                )
            ).values()
        )

    assert outcome([1, 0], 0) == [True, True, True, True]
    assert outcome([0, 0], 0)[0] is False
    assert outcome([1, 0], 1)[1] is False


def test_overload_is_judged_by_goodput_latency_memory_and_recovery() -> None:
    def phase(times: float, start: float, *requests: tuple[float, float, Verdict]) -> Phase:
        return Phase(times, start, start + 10, tally(*requests), (100, 100), 0.1)

    calm = phase(0.5, 0, *((i, 0.1, Verdict.OK) for i in range(10)))
    over = phase(4, 10, *((10 + i, 0.5, Verdict.OK) for i in range(10)), *((11, 0.1, Verdict.REFUSED),) * 30)
    after = phase(0.5, 20, (21, 1.0, Verdict.REFUSED), *((22 + i, 0.15, Verdict.OK) for i in range(8)))
    assert all(states(overload_outcome([calm, over, after], "")).values())

    late = phase(4, 10, *((10 + i, 1.5, Verdict.OK) for i in range(10)))._replace(memory=(100, 150))
    slow = phase(0.5, 20, (23, 1.0, Verdict.REFUSED), *((22 + i, 0.9, Verdict.OK) for i in range(8)))
    assert not any(list(states(overload_outcome([calm, late, slow], "")).values())[:5])


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
