"""Imports go one way, and what is heavy is imported in one place: `api -> operations -> engine -> bundle`,
`training -> bundle`, `codecs` and `errors` are leaves, torch and Lightning are fenced in."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("bundle", "service", "training", "cli", "client")
LAYERS = (
    "service.supervisor",
    "service.worker",
    "service.server",
    "service.app",
    "service.api",
    "service.monitoring",
    "service.operations",
    "service.engine",
    "bundle",
)
LIGHTNING = ("pytorch_lightning", "lightning_fabric", "lightning")
ONNX = ("onnx", "onnx_ir", "onnxruntime", "onnxscript")
TORCHSCRIPT_RUNTIME = "service.engine.runtimes.torchscript"
ONNX_RUNTIME = "service.engine.runtimes.onnx"
TRAINING_LOOP = "training.fit"
ONNX_EXPORT = "training.onnx"
TRACING = ("service.monitoring.tracing", "service.monitoring.trace_ids", "service.api.spans")


class Rule(NamedTuple):
    """No module within `importers` imports anything within `forbidden`. Names are dotted prefixes."""

    why: str
    importers: str
    forbidden: tuple[str, ...]
    but_may: tuple[str, ...] = ()
    except_for: tuple[str, ...] = ()


RULES = (
    Rule("bundle knows nobody", "bundle", PACKAGES, but_may=("bundle",)),
    Rule(
        "bundle needs numpy and pydantic alone",
        "bundle",
        ("",),
        ("bundle", "numpy", "pydantic", *sys.stdlib_module_names),
    ),
    Rule("training knows bundle alone", "training", PACKAGES, but_may=("training", "bundle")),
    Rule("service knows bundle alone", "service", PACKAGES, but_may=("service", "bundle")),
    Rule("client knows nobody", "client", (*PACKAGES, "torch"), but_may=("client",)),
    *(Rule(f"{layer} is a lower layer", layer, LAYERS[:depth]) for depth, layer in enumerate(LAYERS) if depth),
    Rule("codecs are leaves", "service.codecs", ("service",), but_may=("service.codecs", "service.errors")),
    Rule("errors are a leaf", "service.errors", (*PACKAGES, "fastapi", "starlette"), but_may=("service.errors",)),
    Rule("one file of the service imports torch", "service", ("torch",), except_for=(TORCHSCRIPT_RUNTIME,)),
    Rule("one file of the service imports onnxruntime", "service", ONNX, except_for=(ONNX_RUNTIME,)),
    Rule("three files of the service import OpenTelemetry", "service", ("opentelemetry",), except_for=TRACING),
    Rule("the service trains nothing", "service", ("torchvision", *LIGHTNING)),
    Rule("one file of training imports Lightning", "training", LIGHTNING, except_for=(TRAINING_LOOP,)),
    Rule("one file of training imports ONNX", "training", ONNX, except_for=(ONNX_EXPORT,)),
)


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(prefix in ("", name) or name.startswith(f"{prefix}.") for prefix in prefixes)


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file, of every module of every package below `root`."""
    files = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports(module: str, path: Path) -> Iterator[str]:
    """Everything that a file imports, wherever it does: at the top, in a function, for type checking, by its name."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                base = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                yield from (".".join([*base, *filter(None, [source]), alias.name]) for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def breaches(root: Path) -> list[str]:
    """What the rules forbid, one line for each import."""
    return [
        f"{rule.why}: {module} imports {name}"
        for module, path in modules(root).items()
        for name in imports(module, path)
        for rule in RULES
        if within(module, (rule.importers,)) and not within(module, rule.except_for)
        if within(name, rule.forbidden) and not within(name, rule.but_may)
    ]


def plant(root: Path, file: str, source: str) -> None:
    path = root / file
    path.parent.mkdir(parents=True)
    path.write_text(source)


def test_imports_go_one_way() -> None:
    found = breaches(ROOT)
    assert not found, "\n".join(found)


def test_every_package_that_exists_was_walked() -> None:
    found = modules(ROOT)
    assert "bundle.read" in found
    for package in PACKAGES:
        on_disk = len(list((ROOT / package).rglob("*.py")))
        assert sum(within(module, (package,)) for module in found) == on_disk
    assert "bundle.errors.BundleError" in set(imports("service.engine.refusals", found["service.engine.refusals"]))


@pytest.mark.parametrize(
    ("module", "library"),
    [
        (TORCHSCRIPT_RUNTIME, ("torch",)),
        (ONNX_RUNTIME, ONNX),
        (TRAINING_LOOP, LIGHTNING),
        (ONNX_EXPORT, ONNX),
        *((module, ("opentelemetry",)) for module in TRACING),
    ],
)
def test_an_exception_is_made_only_for_a_file_that_needs_it(module: str, library: tuple[str, ...]) -> None:
    path = modules(ROOT)[module]
    assert any(within(name, library) for name in imports(module, path))


BREACHES = {
    "bundle knows nobody": ("bundle/read.py", "import service"),
    "bundle needs numpy and pydantic alone": ("bundle/golden.py", "from torch import nn"),
    "training knows bundle alone": ("training/publish.py", "from service.errors import Overloaded"),
    "service knows bundle alone": ("service/settings.py", "def f():\n    import training.fit"),
    "client knows nobody": ("client/diabolo_client/client.py", "from bundle.calibration import Floats"),
    "service.worker is a lower layer": ("service/worker.py", "from service.supervisor import supervise"),
    "service.server is a lower layer": ("service/server.py", "import service.worker"),
    "service.app is a lower layer": ("service/app.py", "import service.server"),
    "service.api is a lower layer": ("service/api/health.py", "from ..app import create_app"),
    "service.monitoring is a lower layer": ("service/monitoring/metrics.py", "from service.api.bodies import Bodies"),
    "service.operations is a lower layer": ("service/operations.py", "from .api import schemas"),
    "service.engine is a lower layer": ("service/engine/batcher.py", "from service import operations"),
    "bundle is a lower layer": ("bundle/write.py", "from service import engine"),
    "codecs are leaves": ("service/codecs/npy.py", "from service.settings import Settings"),
    "errors are a leaf": ("service/errors.py", "from fastapi import HTTPException"),
    "one file of the service imports torch": ("service/engine/loaded.py", "import torch.nn as nn"),
    "one file of the service imports onnxruntime": ("service/engine/loaded.py", "import onnxruntime"),
    "three files of the service import OpenTelemetry": ("service/app.py", "from opentelemetry import trace"),
    "the service trains nothing": ("service/engine/runtimes/torchscript.py", "import torchvision"),
    "one file of training imports Lightning": ("training/publish.py", "from pytorch_lightning import Trainer"),
    "one file of training imports ONNX": ("training/publish.py", "import onnx_ir"),
}


@pytest.mark.parametrize("rule", [rule.why for rule in RULES])
def test_a_breach_of_each_rule_is_found(rule: str, tmp_path: Path) -> None:
    plant(tmp_path, *BREACHES[rule])
    assert any(breach.startswith(f"{rule}: ") for breach in breaches(tmp_path))


@pytest.mark.parametrize(
    "source",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from training import fit",
        "try:\n    import training\nexcept ImportError:\n    pass",
        "import importlib\nimportlib.import_module('training.fit')",
        "from importlib import import_module\nimport_module('training.fit')",
        "import json, training.fit",
        "async def f():\n    from training.fit import fit",
    ],
)
def test_no_form_of_import_slips_through(source: str, tmp_path: Path) -> None:
    plant(tmp_path, "service/app.py", source)
    assert breaches(tmp_path)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("service/api/operations.py", "from service import operations\nfrom service.engine.loaded import LoadedModel"),
        ("service/codecs/npy.py", "from .. import errors\nfrom service.codecs.rows import RowSpec"),
        ("service/engine/runtimes/torchscript.py", "import torch"),
        ("training/fit.py", "import pytorch_lightning"),
        ("training/networks.py", "import torch, torchvision\nfrom bundle import manifest"),
        ("service/engine/loaded.py", "import torchaudio"),
    ],
)
def test_what_is_allowed_is_no_breach(file: str, source: str, tmp_path: Path) -> None:
    plant(tmp_path, file, source)
    assert breaches(tmp_path) == []


HEAVY = {"torch", "torchvision", "sklearn", *LIGHTNING, *ONNX}
LOADS = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; print(*sys.modules)"


@pytest.mark.parametrize(
    ("imported", "unwanted"),
    [
        (["service.app", "service.server", "service.worker", "service.supervisor"], {"training", *HEAVY}),
        ([module for module in modules(ROOT) if within(module, ("bundle",))], {"service", "training", *HEAVY}),
        (["cli.main"], {"service", "training", *HEAVY}),
    ],
    ids=["service", "bundle", "cli"],
)
def test_importing_a_package_does_not_load_what_it_does_not_need(imported: list[str], unwanted: set[str]) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LOADS, *imported], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(result.stdout.split())
    assert loaded.issuperset(imported)
    assert loaded & unwanted == set()
