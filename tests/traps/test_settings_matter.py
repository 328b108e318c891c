"""A setting that changes nothing misleads whoever turns it: each is read by the code, and by a test of what it does."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from service.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
OWN_FILES = {"service/settings.py", "tests/service/test_settings.py", "tests/traps/test_settings_matter.py"}
# What tests call with settings as keywords: the class itself, and what passes them on.
TAKERS = {"Settings", "place_over", "running", "secured", "serving", "settings_of", "two_workers"}


def _sources(*folders: str) -> dict[str, str]:
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    named = {path.relative_to(ROOT).as_posix(): path for path in paths}
    return {name: path.read_text() for name, path in named.items() if name not in OWN_FILES}


def _read(source: str) -> set[str]:
    """The attributes that are read of anything called settings."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and _last(node.value).lstrip("_") == "settings"
    }


def _set(source: str) -> Iterator[str]:
    """The names that a taker is given, and those of variables of the environment that are set."""
    assigned: dict[str, ast.expr] = {}
    for node in ast.walk(ast.parse(source)):  # what is assigned comes before what is deeper, as any call is
        match node:
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                assigned[ast.unparse(target)] = value
            case ast.Dict(keys=keys):
                yield from _variables(keys)
            case ast.Call(func=function, args=arguments, keywords=keywords):
                named = [ast.Constant(item.arg) for item in keywords if item.arg]
                yield from _variables(arguments if _last(function) == "setenv" else named)
                if _last(function) in TAKERS:
                    unpacked = [assigned.get(_text(item.value), item.value) for item in keywords if item.arg is None]
                    keys = [key for given in unpacked if isinstance(given, ast.Dict) for key in given.keys]
                    yield from map(_text, [*named, *filter(None, keys)])


def _variables(nodes: Iterable[ast.expr | None]) -> Iterator[str]:
    texts = (_text(node) for node in nodes if node is not None)
    return (text.removeprefix(PREFIX).lower() for text in texts if text.startswith(PREFIX))


def _text(node: ast.expr) -> str:
    """The text that the node is, else its source."""
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)


def _last(expression: ast.expr) -> str:
    return ast.unparse(expression).rpartition(".")[2]


def test_every_setting_is_read_by_the_code() -> None:
    read = set().union(*map(_read, _sources("service", "cli").values()))
    assert set(Settings.model_fields) - read == set()


def test_every_setting_is_set_by_a_test_of_what_it_does() -> None:
    tested = {name for source in _sources("tests").values() for name in _set(source)}
    assert set(Settings.model_fields) - tested == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("Settings(strict=True)", {"strict"}),
        ("zip(a, b, strict=True)", set()),
        ("make_manifest(metrics={'port': 1})", set()),
        ("with conftest.serving(models, **{'port': '0', **more}): pass", {"port"}),
        ("limits: dict = {'max_rows': 8}\nserving(models, **limits)", {"max_rows"}),
        ("limits = {'max_rows': 8}\nread(**limits)", set()),
        ("end_of(DIABOLO_STRICT='1')", {"strict"}),
        ("Popen(env={**environ, 'DIABOLO_METRICS_DIR': 'x'})", {"metrics_dir"}),
        ("monkeypatch.setenv('DIABOLO_METRICS', '0')", {"metrics"}),
        ("assert 'DIABOLO_PORT' in ended.stderr", set()),
    ],
)
def test_what_is_called_like_a_setting_and_is_none_does_not_count(source: str, found: set[str]) -> None:
    assert set(_set(source)) == found
