"""A setting that changes nothing misleads whoever turns it: each is read by the code, and by a test of what it does."""

import ast
from pathlib import Path

from service.settings import Settings

ROOT = Path(__file__).parents[2]
OWN_FILES = {"service/settings.py", "tests/service/test_settings.py", "tests/traps/test_settings_matter.py"}


def _sources(*folders: str) -> dict[str, str]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    named = {path.relative_to(ROOT).as_posix(): path for path in paths}
    return {name: path.read_text() for name, path in named.items() if name not in OWN_FILES}


def _read(source: str) -> set[str]:
    """The attributes that are read of anything called settings."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).rpartition(".")[2].lstrip("_") == "settings"
    }


def test_every_setting_is_read_by_the_code() -> None:
    read = set().union(*map(_read, _sources("service", "cli").values()))
    assert set(Settings.model_fields) - read == set()


def test_every_setting_is_set_by_a_test_of_what_it_does() -> None:
    texts = _sources("tests").values()
    untested = {
        name
        for name in Settings.model_fields
        if not any(f"{name}=" in text or f"DIABOLO_{name.upper()}" in text or f'"{name}":' in text for text in texts)
    }
    assert untested == set()
