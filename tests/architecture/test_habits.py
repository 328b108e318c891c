"""Habits that keep the code readable, checked so that nobody has to."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bundle", "service", "training", "cli", "client")
MAX_LINES = 320


def python_files(root: Path) -> Iterator[Path]:
    """Every Python file of the project; environments and builds are none of it."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".") and name not in ("build", "dist")]
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def faults(path: Path) -> list[str]:
    """What is wrong with one file."""
    content = path.read_text(encoding="utf-8")
    found = []
    if (lines := len(content.splitlines())) > MAX_LINES:
        found.append(f"has {lines} lines, more than {MAX_LINES}: it does more than one thing")
    if path.stem in ("utils", "util", "helpers", "common", "misc"):
        found.append("is called after nothing that it holds")
    return found


def undocumented(source: str) -> list[str]:
    """The functions and classes at the top of a module that are not private and say nothing of themselves; and
    `__all__`, when such a module lacks it or lists what is not there."""
    listed: list[str] | None = None
    defined: set[str] = set()
    silent = []
    for node in ast.parse(source).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                listed = ast.literal_eval(value)
            case ast.Assign(targets=targets):
                defined.update(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                defined.add(name)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                defined.update(alias.asname or alias.name for alias in names)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                defined.add(name)
                if not name.startswith("_") and not ast.get_docstring(node):
                    silent.append(f"{name} has no docstring")
                if not name.startswith("_") and listed is None:
                    silent.append(f"{name} stands before any __all__")
    return [*silent, *(f"{name} is in __all__ and nowhere else" for name in listed or [] if name not in defined)]


def test_files_are_short_and_named_after_what_they_hold() -> None:
    files = list(python_files(ROOT))
    assert Path(__file__) in files
    assert ROOT / "bundle" / "read.py" in files
    found = [f"{path.relative_to(ROOT)} {fault}" for path in files for fault in faults(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("name", "lines"), [("utils.py", 1), ("reader.py", MAX_LINES + 1)])
def test_a_bad_file_is_found(tmp_path: Path, name: str, lines: int) -> None:
    (tmp_path / name).write_text("x = 1\n" * lines)
    assert faults(tmp_path / name)


def test_what_is_public_is_listed_and_documented() -> None:
    sources = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert "bundle/read.py" in sources
    found = [f"{name}: {fault}" for name, source in sources.items() for fault in undocumented(source)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "__all__ = ['f']\ndef f(): ...",
        "__all__ = []\ndef f(): ...",
        "__all__ = ['C']\nclass C:\n    x = 1",
        "__all__ = ['f']\nasync def f(): ...",
        "def f():\n    'Documented, in a module that lists nothing.'",
        "__all__ = ['f']\ndef g():\n    'Documented, while what is listed is not there.'",
    ],
)
def test_a_bad_definition_is_found(source: str) -> None:
    assert undocumented(source)


def test_private_and_documented_definitions_are_fine() -> None:
    source = (
        "__all__ = ['ONE', 'f', 'path']\nfrom os import path\nONE: int = 1\ndef f():\n    'Something.'\ndef _g(): ..."
    )
    assert undocumented(source) == []
