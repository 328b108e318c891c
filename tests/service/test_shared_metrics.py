"""The numbers of several processes: counters of all that ever served, gauges of those that do."""

from pathlib import Path

import pytest

from service.monitoring import shared
from service.monitoring.shared import Share, clear, ended
from service.monitoring.snapshot import Snapshot

REQUESTS = ("GET", "/", "200")


def numbers(*, requests: int, in_flight: int = 0, ready: bool = True, ended: int = 0) -> Snapshot:
    found = Snapshot()
    found.add("workers_ended", (), ended)
    found.add("http_requests", REQUESTS, requests)
    found.add("batch_size", ("tiny",), *[requests] * 12, 0.5 * requests)
    found.add("http_requests_in_flight", (), in_flight)
    found.add("ready", (), ready)
    return found


def process(folder: Path, pid: int, monkeypatch: pytest.MonkeyPatch) -> Share:
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: pid)
        return Share(folder)


def test_counters_and_histograms_add_up_and_each_gauge_is_merged_as_it_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (process(tmp_path, pid, monkeypatch) for pid in (1, 11))
    one.publish(numbers(requests=3, in_flight=2))
    other.publish(numbers(requests=4, in_flight=5, ready=False))
    assert one.all().values == other.all().values == numbers(requests=7, in_flight=7, ready=False).values
    one.publish(numbers(requests=5, in_flight=0))
    assert other.all().values["http_requests"] == {REQUESTS: [9]}


def test_what_the_dead_have_counted_stays_and_how_they_were_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (process(tmp_path, pid, monkeypatch) for pid in (1, 11))
    one.publish(numbers(requests=3, in_flight=2, ready=False))
    other.publish(numbers(requests=4))
    ended(tmp_path, 1)
    assert other.all().values == numbers(requests=7, in_flight=0, ended=1).values
    ended(tmp_path, 1)  # one that had not counted anything yet
    # A process id comes again.
    process(tmp_path, 1, monkeypatch).publish(numbers(requests=1, in_flight=1))
    assert other.all().values == numbers(requests=8, in_flight=1, ended=2).values
    ended(tmp_path, 1)
    assert other.all().values == numbers(requests=8, in_flight=0, ended=3).values
    ended(tmp_path, 2, asked=True)
    assert other.all().values == numbers(requests=8, in_flight=0, ended=3).values


def test_whoever_reads_while_a_file_becomes_past_counts_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (process(tmp_path, pid, monkeypatch) for pid in (1, 11))
    one.publish(numbers(requests=3))
    other.publish(numbers(requests=4))
    read_past = shared._past

    def ends_first(folder: Path) -> object:
        with monkeypatch.context() as patch:
            patch.setattr(shared, "_past", read_past)
            ended(folder, 1)
        return read_past(folder)

    monkeypatch.setattr(shared, "_past", ends_first)
    assert other.all().values["http_requests"] == {REQUESTS: [7]}
    assert other.all().values["http_requests"] == {REQUESTS: [7]}


def test_nothing_of_earlier_services_counts_and_other_files_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "made" / "here"
    clear(folder)
    for pid in (1, 2):
        process(folder, pid, monkeypatch).publish(numbers(requests=3))
    ended(folder, 1)
    (folder / "mine.json").write_text("{}")
    clear(folder)
    assert [path.name for path in folder.iterdir()] == ["mine.json"]
