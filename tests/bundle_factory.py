"""A tiny valid bundle, made without torch: rows of four values, codes of two, every answer simple arithmetic."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bundle.calibration import Calibration, Floats
from bundle.golden import Expected, Golden
from bundle.manifest import (
    CALIBRATION_FILE,
    CARD_FILE,
    GOLDEN_FILE,
    MANIFEST_FILE,
    TORCHSCRIPT_FILE,
    CalibrationSummary,
    FeatureStatistics,
    FileEntry,
    ImageSpec,
    InputSpec,
    LatentSpec,
    Manifest,
    Provenance,
    Score,
)
from bundle.operations import Family, Method, Operation, methods_of
from bundle.write import write_bundle

__all__ = [
    "CALIBRATION",
    "LATENT_SIZE",
    "SIZE",
    "forge",
    "make_files",
    "make_golden",
    "make_manifest",
    "operations_of",
    "publish",
    "rewrite_manifest",
    "run",
]

SIZE = 4
LATENT_SIZE = 2
CALIBRATION = Calibration.fit(np.linspace(0, 1, 19, dtype=np.float32))


def run(method: Method, rows: Floats) -> tuple[Floats, ...]:
    """What the program of the tiny bundle answers: a code is a row's first half, and decoding says it twice."""
    match method:
        case Method.ENCODE:
            return (rows[:, :LATENT_SIZE],)
        case Method.ENCODE_DISTRIBUTION:
            return rows[:, :LATENT_SIZE], np.zeros((len(rows), LATENT_SIZE), np.float32)
        case Method.DECODE:
            return (np.hstack([rows, rows]),)
        case Method.RECONSTRUCT | Method.DENOISE:
            return run(Method.DECODE, rows[:, :LATENT_SIZE])
        case Method.ANOMALY_MAP:
            return (np.square(run(Method.RECONSTRUCT, rows)[0] - rows),)
        case Method.ANOMALY_SCORE:
            return (run(Method.ANOMALY_MAP, rows)[0].mean(axis=1),)


def operations_of(family: Family) -> tuple[Operation, ...]:
    """All that a bundle of this family can do."""
    special = {Operation.DENOISE: Family.DENOISING, Operation.SAMPLE: Family.VARIATIONAL}
    return tuple(operation for operation in Operation if special.get(operation, family) is family)


def make_golden(family: Family = Family.VANILLA) -> Golden:
    """Three probe rows and what `run` makes of them."""
    inputs = np.linspace(0, 1, 3 * SIZE, dtype=np.float32).reshape(3, SIZE)
    latents = inputs[:, :LATENT_SIZE]
    methods = methods_of(
        frozenset(operations_of(family)), variational=family is Family.VARIATIONAL, additive_score=True
    )
    expected = {method: Expected(run(method, latents if method.takes_latents else inputs)) for method in methods}
    return Golden(inputs, latents, expected)


def make_files(family: Family = Family.VANILLA, *, program: bytes = b"a program") -> dict[str, bytes]:
    """The files of the tiny bundle, without its manifest."""
    return {
        TORCHSCRIPT_FILE: program,
        GOLDEN_FILE: make_golden(family).to_bytes(),
        CALIBRATION_FILE: CALIBRATION.to_bytes(),
        CARD_FILE: b"# tiny\n",
    }


def make_manifest(files: dict[str, FileEntry], **changes: Any) -> Manifest:
    """The manifest of the tiny bundle; `changes` are fields of Manifest."""
    family = changes.get("family", Family.VANILLA)
    fields: dict[str, Any] = {
        "name": "tiny",
        "version": 1,
        "family": family,
        "operations": operations_of(family),
        "input": InputSpec(size=SIZE, range=(0, 1), image=ImageSpec(height=2, width=2, channels=1)),
        "latent": LatentSpec(size=LATENT_SIZE),
        "statistics": FeatureStatistics(
            mean=(0.5,) * SIZE, standard_deviation=(0.1,) * SIZE, minimum=(0,) * SIZE, maximum=(1,) * SIZE
        ),
        "score": Score(kind="reconstruction_error", additive=True, map_ceiling=0.5),
        "calibration": CalibrationSummary(size=CALIBRATION.size, minimum=0, median=0.5, maximum=1),
        "metrics": {"test_mse": 0.25},
        "hyper_parameters": {"layers": [4, 2], "tied": False, "note": "ünïcode"},
        "provenance": Provenance(
            created_at="2026-01-01T00:00:00Z",
            command="diabolo train tiny",
            recipe="tiny",
            seed=1,
            data_source="arithmetic",
            data_digest="0" * 64,
            splits={"train": 100, "calibration": CALIBRATION.size},
            packages={"numpy": "2"},
        ),
        "artefacts": {"torchscript": (TORCHSCRIPT_FILE,)},
        "files": files,
    }
    return Manifest(**fields | changes)


def publish(root: Path, *, files: dict[str, bytes] | None = None, **changes: Any) -> Path:
    """The tiny bundle is at `root/<name>/<version>`; `changes` are fields of its manifest."""
    content = make_files(changes.get("family", Family.VANILLA)) if files is None else files
    return write_bundle(root, content, manifest=lambda entries: make_manifest(entries, **changes))


def rewrite_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The published manifest is what `change` made of it in place."""
    path = folder / MANIFEST_FILE
    fields = json.loads(path.read_bytes())
    change(fields)
    path.write_text(json.dumps(fields))


def forge(folder: Path, name: str, content: bytes) -> None:
    """The file `name` holds `content`, and the manifest vouches for it."""
    (folder / name).write_bytes(content)
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rewrite_manifest(folder, lambda fields: fields["files"].update({name: entry}))
