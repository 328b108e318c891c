"""docs/traps.md names tests that exist, one or more for each trap; and no file of this folder is missing there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "traps.md").read_text(encoding="utf-8")
ROWS = re.compile(r"^\| (\d+) \|.*\| (.*) \|$", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def names_in(path: str) -> list[str]:
    """The tests of a file."""
    return re.findall(r"^(?:async )?def (test_\w+)\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_trap_has_its_tests_and_these_exist() -> None:
    numbers = [int(number) for number, _ in ROWS.findall(PAGE)]
    assert numbers == [*range(1, 16), *range(1, 17)]
    for number, tests in ROWS.findall(PAGE):
        named = NAMED.findall(tests)
        assert named, f"row {number} names no test"
        assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []


def test_every_file_of_this_folder_is_on_the_page() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in Path(__file__).parent.glob("test_*.py")}
    assert files - {path for path, _ in NAMED.findall(PAGE)} == {"tests/traps/test_traps_page.py"}
