"""What a soak makes of its measurements, and of what the service has said on its log: no fault passes."""

import asyncio
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.reliability import counting
from benchmarks.reliability.endurance import Held, Soaked, growth, lasting, outcome
from benchmarks.reliability.log import Log
from benchmarks.reliability.row import Outcome
from benchmarks.reliability.service import Usage
from benchmarks.reliability.tally import Tally, Verdict
from service.logs import TEXT
from service.settings import Settings
from service.supervisor import Supervisor

ELDER = 7


def held(memory: float, pid: int = ELDER) -> Held:
    return Held(Usage(50, 9, 3), Usage(memory, 20, 4), 6, pid)


def sound(**changes: Any) -> Soaked:
    """Four laps, overload from 10 to 20 in which half is refused, and nothing else to complain of."""
    tally = Tally()
    for due in range(40):
        tally.add(due, 0.1, Verdict.REFUSED if 10 <= due < 15 else Verdict.LATE if 15 <= due < 20 else Verdict.OK)
    values: dict[str, Any] = {
        "tally": tally,
        "laps": [held(100)] * 4,
        "elder": ELDER,
        "bears": [100.0] * 4,
        "bursts": [(10, 20)],
    }
    return Soaked(**values | changes)


def missed(soaked: Soaked) -> list[str]:
    return [check.what for check in outcome(soaked, minutes=1, setting="").checks if not check.holds]


def test_growth_of_a_soak_leaves_the_first_laps_out() -> None:
    laps = [held(memory) for memory in (10, 100, 110, 120, 130, 140, 150, 160)]
    assert growth(laps, lambda lap: lap.elder.memory) == 150 - 110


@pytest.mark.parametrize("laps", [0, 1, 2, 3])
def test_fewer_than_four_laps_show_no_growth_and_reach_no_goal(laps: int) -> None:
    assert np.isnan(growth([held(1)] * laps, lambda lap: lap.elder.memory))
    found = missed(sound(laps=[held(100)] * laps, bears=[100.0] * laps))
    assert "laps" in found
    assert "growth of the worker's memory" in found
    assert "what the service bears in the last quarter of the laps / in the first" in found


def test_a_soak_without_a_lap_has_a_row_that_says_what_ended_it() -> None:
    soaked = sound(laps=[], bears=[], tally=Tally(), bursts=[], broken="TimeoutError('after 120 s')", seconds=90)
    found = outcome(soaked, minutes=60, setting="")
    assert "Broken off after 1.5 minutes: TimeoutError('after 120 s')." in found.notes
    assert {"laps", "broken off before its time"} <= set(missed(soaked))


def test_a_soak_in_which_all_was_well_reaches_every_goal_and_misses_by_one_wrong_answer_or_surprise() -> None:
    soaked = sound()
    assert missed(soaked) == []

    for _ in range(9_999):  # so that a few are no share
        soaked.tally.add(25, 1, Verdict.OK)
    soaked.tally.add(25, 1, Verdict.REFUSED)
    soaked.tally.add(25, 1, Verdict.WRONG)
    soaked.surprises = 1
    assert missed(soaked) == [
        "of these, not under way on a worker that was killed",
        "wrong answers",
        "requests refused or late while there was no overload",
    ]


def test_an_answer_that_is_late_while_there_is_no_overload_is_excused_no_more_than_a_refusal() -> None:
    soaked = sound()
    for _ in range(9_999):
        soaked.tally.add(25, 1, Verdict.OK)
    soaked.tally.add(25, 1, Verdict.LATE)
    assert missed(soaked) == ["requests refused or late while there was no overload"]


def test_nearly_all_that_is_asked_while_there_is_no_overload_must_be_answered() -> None:
    soaked = sound(endangered=100)
    for _ in range(1_000):
        soaked.tally.add(25, 1, Verdict.OK)
    soaked.tally.add(25, 1, Verdict.LOST)
    assert missed(soaked) == []
    soaked.tally.add(25, 1, Verdict.LOST)
    assert missed(soaked) == ["of requests while there was no overload, answered rightly"]


def test_a_service_that_refuses_everything_in_overload_and_is_asked_nothing_else_reaches_no_goal_of_answers() -> None:
    tally = Tally()
    tally.add(15, 0.1, Verdict.REFUSED)
    assert missed(sound(tally=tally, bears=[0.0] * 4)) == [
        "of requests while there was no overload, answered rightly",
        "what the service bears in the last quarter of the laps / in the first",
    ]


@pytest.mark.parametrize(
    ("bears", "share"),
    [
        ([100, 90, 80, 50], 0.5),
        ([100, 100, 9, 9, 9, 9, 30, 50], 0.4),
        ([100, 300, 200, 1, 1, 1, 1, 1, 1, 1, 90, 110, 1], 0.45),
    ],
)
def test_what_a_service_bears_at_the_end_counts_against_what_it_did_at_the_beginning(
    bears: list[float], share: float
) -> None:
    assert lasting(bears) == pytest.approx(share)
    assert (missed(sound(bears=bears)) == []) is (share >= 0.5)


@pytest.mark.parametrize("bears", [[], [100.0] * 3, [0.0, 1.0, 1.0, 1.0]])
def test_what_too_few_laps_or_none_have_borne_says_nothing(bears: list[float]) -> None:
    assert np.isnan(lasting(bears))


def test_the_worker_that_is_never_killed_must_be_the_same_process_from_the_start_on() -> None:
    what = "laps after which the worker that is never killed was another process"
    assert missed(sound(laps=[*[held(100)] * 3, held(20, pid=8)])) == [what]
    assert missed(sound(laps=[held(20, pid=8)] * 4)) == [what]


def test_the_share_that_other_programs_took_is_told_and_excuses_no_refusal() -> None:
    soaked = sound(others=0.4)
    soaked.tally.add(25, 1, Verdict.REFUSED)
    assert "requests refused or late while there was no overload" in missed(soaked)
    assert "other programs 40 % of the machine" in outcome(soaked, minutes=1, setting="").setting


def test_a_soak_that_breaks_off_misses_and_says_when_and_why() -> None:
    soaked = sound(broken="TimeoutError('after 120 s')", seconds=90)
    assert missed(soaked) == ["broken off before its time"]
    assert "Broken off after 1.5 minutes: TimeoutError('after 120 s')." in outcome(soaked, minutes=60, setting="").notes


def test_what_a_soak_has_found_so_far_is_in_a_line() -> None:
    soaked = Soaked(laps=[held(100)], endangered=3)
    soaked.tally.add(25, 1, Verdict.WRONG, "a wrong number")
    line = soaked.progress(surprises=2)
    for shown in (
        "1 laps",
        "0 ok, 0 refused, 0 late, 0 lost, 1 wrong",
        "3 under way at kills, 2 lost besides",
        "memory=100",
    ):
        assert shown in line
    assert line.endswith("1 x wrong: a wrong number")


class TestLog:
    @pytest.fixture
    def log(self, tmp_path: Path) -> Path:
        path = tmp_path / "service.log"
        path.touch()
        return path

    @staticmethod
    def say(log: Path, level: int, message: str, **given: Any) -> None:
        record = logging.LogRecord("diabolo", level, "", 0, message, None, **{"exc_info": None, **given})
        with log.open("a") as file:
            file.write(logging.Formatter(TEXT).format(record) + "\n")

    @staticmethod
    def missed(log: Path, *, kills: int = 0) -> list[str]:
        found = Log.read(log).added_to(Outcome(setting="", checks=()), kills=kills)
        return [check.what for check in found.checks if not check.holds]

    def test_warnings_are_no_errors(self, log: Path) -> None:
        self.say(log, logging.WARNING, "POST /v1/models/{name}/encode 504 in 2000.0 ms, an ERROR of nobody")
        assert self.missed(log) == []

    @pytest.mark.parametrize("kills", [1, 3])
    def test_every_end_of_a_worker_is_a_kill_and_every_kill_an_end(self, log: Path, kills: int) -> None:
        for pid in (1, 2):
            self.say(log, logging.ERROR, f"worker {pid} ended after 5 s with signal 9 (Killed); it is replaced")
        assert self.missed(log, kills=2) == []
        assert self.missed(log, kills=kills) == ["workers that ended, more or fewer than were killed"]

    @pytest.mark.parametrize(
        ("level", "message"),
        [
            (logging.ERROR, "a forward pass of encode failed"),
            (logging.CRITICAL, "a batcher has broken"),
            (logging.WARNING, "worker 5 has not been heard of for 31.0 s"),
        ],
    )
    def test_errors_and_silence_are_missed_goals_and_are_shown(self, log: Path, level: int, message: str) -> None:
        self.say(log, level, message)
        assert self.missed(log) == ["errors in the service's log"]
        (note,) = Log.read(log).added_to(Outcome(setting="", checks=())).notes
        assert message in note

    def test_a_traceback_that_nothing_announces_is_an_error(self, log: Path) -> None:
        log.write_text("Traceback (most recent call last):\n  File ...\nValueError\n")
        assert self.missed(log) == ["errors in the service's log"]

    async def test_the_end_of_a_worker_is_said_as_the_log_is_read(
        self, log: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """By the real supervisor."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            command = [sys.executable, "-c", ""]
            assert await Supervisor(Settings(), [listener], workers=1, command=command).run() != 0
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
        for record in caplog.records:
            self.say(log, record.levelno, record.getMessage())
        assert Log.read(log) == Log(ended=1, faults=())


def test_the_counting_service_says_what_it_says_as_the_service_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without levels in the supervisor's lines no error of it would be found."""
    configured: list[Settings] = []

    def supervise(settings: Settings, *_: Any, **__: Any) -> None:
        assert configured == [settings]
        raise SystemExit(0)

    monkeypatch.setattr(counting, "configure_logs", configured.append)
    monkeypatch.setattr(counting, "supervise", supervise)
    monkeypatch.setattr(sys, "argv", ["counting"])
    with pytest.raises(SystemExit):
        counting.main()
