"""A scan finds what claims to be a bundle by its place, and nothing else."""

from pathlib import Path

import pytest

from bundle.read import Location, scan
from tests.bundle_factory import publish


def test_versions_come_in_numerical_order_by_name(tmp_path: Path) -> None:
    for name, version in [("b", 10), ("b", 9), ("a", 2), ("b", 1)]:
        publish(tmp_path, name=name, version=version)
    assert scan(tmp_path) == [
        Location(name, version, tmp_path / name / str(version))
        for name, version in [("a", 2), ("b", 1), ("b", 9), ("b", 10)]
    ]


@pytest.mark.parametrize(
    "version",
    ["01", "0", "-1", "+1", "1.0", "1 ", " 1", "1_0", "٣", "1٣", "²", "1e3", "latest", ".1", ".2.abcdef01", "v1", "1~"],
)
def test_a_folder_that_is_no_version_is_passed_over(tmp_path: Path, version: str) -> None:
    (tmp_path / "tiny" / version).mkdir(parents=True)
    assert scan(tmp_path) == []


@pytest.mark.parametrize(
    "name", [".tiny", "Tiny", "tiny model", "-tiny", "tïny", "lost+found", "__pycache__", "t" * 65]
)
def test_a_folder_that_is_no_name_is_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "1").mkdir(parents=True)
    assert scan(tmp_path) == []


def test_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "readme").touch()
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "1").touch()
    assert scan(tmp_path) == []


def test_a_link_is_found_so_that_its_refusal_can_be_seen(tmp_path: Path) -> None:
    elsewhere = publish(tmp_path / "elsewhere")
    root = tmp_path / "models"
    (root / "tiny").mkdir(parents=True)
    (root / "tiny" / "1").symlink_to(elsewhere)
    (root / "linked").symlink_to(elsewhere.parent)
    assert [(location.name, location.version) for location in scan(root)] == [("linked", 1), ("tiny", 1)]


def test_a_half_copied_version_is_found_so_that_its_refusal_can_be_seen(tmp_path: Path) -> None:
    (tmp_path / "tiny" / "1").mkdir(parents=True)
    assert [location.version for location in scan(tmp_path)] == [1]


def test_a_version_of_absurd_length_is_still_a_number(tmp_path: Path) -> None:
    (tmp_path / "tiny" / ("9" * 200)).mkdir(parents=True)
    assert [location.version for location in scan(tmp_path)] == [10**200 - 1]


def test_a_name_that_vanishes_during_the_scan_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, name="stays")
    (tmp_path / "goes").mkdir()
    iterdir = Path.iterdir

    def vanishing(path: Path) -> object:
        if path.name == "goes":
            path.rmdir()
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", vanishing)
    assert [location.name for location in scan(tmp_path)] == ["stays"]


def test_a_root_that_is_not_there_cannot_be_taken_for_an_empty_one(tmp_path: Path) -> None:
    assert scan(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "missing")
