"""How many cores a process may use: of the machine's, and of those that its container is given the time of."""

import os
from pathlib import Path

import pytest

from service.machine import usable_cores

THERE = 8
IN_CONTAINER, ON_HOST = "0::/\n", "0::/system.slice/diabolo.service\n"
FIRST_VERSION = "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n0::/docker/1\n"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        (IN_CONTAINER, {}, THERE),
        ("nonsense", {}, THERE),
        (IN_CONTAINER, {"cpu.max": "max 100000\n"}, THERE),
        (IN_CONTAINER, {"cpu.max": "200000 100000\n"}, 2),
        (IN_CONTAINER, {"cpu.max": "150000 100000\n"}, 2),
        (IN_CONTAINER, {"cpu.max": "1000 100000\n"}, 1),
        (IN_CONTAINER, {"cpu.max": "6400000 100000\n"}, THERE),
        (IN_CONTAINER, {"cpu.max": "nonsense"}, THERE),
        (ON_HOST, {"system.slice/diabolo.service/cpu.max": "300000 100000\n"}, 3),
        (ON_HOST, {"system.slice/cpu.max": "50000 25000\n", "system.slice/diabolo.service/cpu.max": "max 100000"}, 2),
        (ON_HOST, {"system.slice/other.service/cpu.max": "100000 100000\n"}, THERE),
        (ON_HOST, {"cpu.max": "400000 100000\n"}, 4),
        (FIRST_VERSION, {"cpu/docker/1/cpu.cfs_quota_us": "250000", "cpu/docker/1/cpu.cfs_period_us": "100000"}, 3),
        (FIRST_VERSION, {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 5),
        (FIRST_VERSION, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, THERE),
        (FIRST_VERSION, {"memory/cpu.max": "100000 100000\n"}, THERE),
    ],
)
def test_they_are_those_of_the_machine_and_no_more_than_the_quota_rounded_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(THERE)))
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "own").write_text(own)
    assert usable_cores(groups=tmp_path / "cgroup", own=tmp_path / "own") == cores


def test_where_the_kernel_tells_no_groups_they_are_those_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(THERE)))
    assert usable_cores(groups=tmp_path, own=tmp_path / "own") == THERE
