"""A test that is always skipped protects nothing. Where tests may skip is written here, so that one more is noticed;
where NO_SKIPS is set a skip is a failure, so that an inverted condition is noticed too."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "tests/e2e/conftest.py": ["skip", "skip"],  # Fashion-MNIST, curl
    "tests/e2e/test_docs_page.py": ["skip"],  # a browser
    "tests/e2e/test_kserve_client.py": ["skipif"],  # an environment with a client that needs other versions
    "tests/training/test_hardware.py": ["skipif"],  # a GPU
    "tests/traps/test_full_disk.py": ["skip"],  # user namespaces
}
KINDS = {"skip", "skipif", "importorskip", "xfail", "SkipTest", "skipTest", "skipUnless", "skipIf"}
# A small suite that `test_where_no_skips_are_allowed_they_fail` runs: none of these skips is this suite's.
SKIPPING = """
import pytest

@pytest.fixture
def lacking():
    pytest.skip("the data are not here")

def test_that_runs(): ...
def test_in_setup(lacking): ...
def test_in_the_midst(): pytest.skip("no browser")

@pytest.mark.skipif(True, reason="an inverted condition")
def test_by_mark(): ...

@pytest.mark.skipif(True, reason="no GPU that PyTorch can use on this machine")
def test_excused(): ...
"""


def skips(source: str) -> list[str]:
    """The ways to skip, or to expect a failure, that a file makes use of."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    names += [alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    return sorted(name for name in names if name in KINDS)


def test_tests_skip_only_where_a_machine_may_lack_something() -> None:
    found = {path.relative_to(ROOT).as_posix(): skips(path.read_text()) for path in (ROOT / "tests").rglob("*.py")}
    assert {path: kinds for path, kinds in sorted(found.items()) if kinds} == ALLOWED


@pytest.mark.parametrize(
    "source", ["import pytest\npytest.skip('x')", "@pytest.mark.skipif(True, reason='x')\ndef f(): ...",
               "from unittest import skipIf"]
)  # fmt: skip
def test_a_skip_is_found(source: str) -> None:
    assert skips(source)


@pytest.mark.parametrize(
    ("setting", "outcomes"),
    [("", {"passed": 1, "skipped": 4}), ("1", {"passed": 1, "failed": 1, "errors": 2, "skipped": 1})],
)
def test_where_no_skips_are_allowed_they_fail(tmp_path: Path, setting: str, outcomes: dict[str, int]) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "NO_SKIPS": setting},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = {what: int(number) for number, what in re.findall(r"(\d+) ([a-z]+)", ended.stdout.splitlines()[-1])}
    assert found == outcomes, ended.stdout
    assert ("it must run here: Skipped: an inverted condition" in ended.stdout) == bool(setting)
