"""From a configuration to a published bundle, in the order that keeps the figures honest:
fit -> score statistics -> export -> calibrate the exported program -> evaluate -> report -> write."""

import platform
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bundle.manifest import (
    CALIBRATION_FILE,
    CARD_FILE,
    GOLDEN_FILE,
    PAGE_FILE,
    PREVIEW_FILE,
    REPORT_FILE,
    TORCHSCRIPT_FILE,
    CalibrationSummary,
    FeatureStatistics,
    InputSpec,
    LatentSpec,
    Manifest,
    Provenance,
    Score,
    is_name,
)
from bundle.operations import Family, Operation, methods_of
from bundle.write import next_version, write_bundle
from training.calibrate import calibrate, map_ceiling
from training.config import Config
from training.data import DataSet, Splits, load, split
from training.errors import ConfigInvalid
from training.evaluate import evaluate
from training.export import BATCH_ROWS, Artefact, Program, check_parity, export, golden_probe, probe_rows
from training.fit import CHECKPOINT_FILE, Epoch, fit
from training.lock import locked
from training.moments import Moments, moments
from training.networks import build
from training.onnx import onnx_files
from training.report.card import card
from training.report.findings import find
from training.report.gallery import gallery
from training.report.page import page
from training.report.preview import preview
from training.rows import select, transformed
from training.scores import score_of
from training.units import Powers, StandardDeviations, Units

__all__ = ["Places", "Published", "operations_of", "publish"]

PROBE_ROWS = 16
PARITY_ROWS = 256
EVERY_FAMILY = {
    Operation.ENCODE,
    Operation.DECODE,
    Operation.RECONSTRUCT,
    Operation.ANOMALY_SCORE,
    Operation.INTERPOLATE,
}
SPECIAL = {Family.DENOISING: {Operation.DENOISE}, Family.VARIATIONAL: {Operation.SAMPLE}}
PACKAGES = ("diabolo", "numpy", "onnxruntime", "onnxscript", "pytorch-lightning", "scikit-learn", "torch")


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where bundles go, where data sets lie, and where unfinished runs and the logs of losses are kept."""

    models: Path
    data: Path
    runs: Path


@dataclass(frozen=True, eq=False)
class Published:
    """A bundle as it lies on disk, the epochs that led to it, and the folder of the run with its log of losses."""

    path: Path
    manifest: Manifest
    epochs: list[Epoch]
    run: Path


def publish(
    config: Config,
    places: Places,
    *,
    data: DataSet | None = None,
    name: str | None = None,
    command: str,
    fresh: bool = False,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Published:
    """The bundle that `config` describes is trained and published as the next version of `name` (the recipe's name).

    `data` is what its source gives, where that is loaded already. Rows without a declared range are trained on, scored
    and judged in standard deviations of the training split, others in powers of their values where the configuration
    says so; the bundle takes and gives them in their own units.

    A run that was interrupted goes on where it stopped, unless `fresh`. `command` is how to repeat it. Raises
    TrainingError for a known reason not to, OSError when the disk refuses; then nothing was published.
    """
    config.check()
    name = name or config.recipe
    if not is_name(name):
        raise ConfigInvalid(f"{name!r} cannot name a bundle; use small letters, digits, '.', '_' and '-', at most 64")

    given = load(config.source, places.data) if data is None else data
    digest = given.digest
    splits = split(given, config.splits, seed=config.seed)
    found = moments(select(given.features, splits.train))
    units = _units(config, given, found)
    data = given if units is None else _inward(given, units)
    train = select(data.features, splits.train)
    run = places.runs / f"{config.recipe}-{config.digest(digest)[:12]}"

    network = build(
        data.size,
        config.architecture,
        variational=config.variational,
        range=data.range,
        seed=config.seed,
        image=data.image,
    )
    if config.architecture.standardise:
        network.standardise_by(train, one_scale=data.image is not None)
    # Of several processes that share a run, only the first writes to its folder.
    with locked(run) if config.fitting.hardware.is_first else nullcontext():
        if fresh:
            (run / CHECKPOINT_FILE).unlink(missing_ok=True)
        epochs = fit(
            network,
            config.objective,
            settings=config.fitting,
            train=train,
            validation=data.features[splits.validation],
            seed=config.seed,
            folder=run,
            on_epoch=on_epoch,
        )

    score = score_of(config, network)
    score.fit(train)
    operations = operations_of(config.family)
    methods = methods_of(frozenset(operations), variational=config.variational, additive_score=score.additive)
    held_out = given.features[splits.calibration]
    program = Program(network, score, units=units)
    content = export(program, methods, rows=held_out[:PARITY_ROWS])
    exported = Artefact(content)
    check_parity(exported, program, methods, rows=held_out[:PARITY_ROWS])
    calibration = calibrate(exported, held_out.numpy())
    artefact = Artefact(content, units=units)

    test = data.features[splits.test]
    labels = None if data.labels is None else data.labels[splits.test]
    probe = probe_rows(network, test, count=PROBE_ROWS).numpy()
    golden = probe if units is None else units.outward(torch.from_numpy(probe)).numpy()
    expected = golden_probe(exported, methods, rows=golden, program=program)
    second = onnx_files(
        program, methods, rows=held_out[:BATCH_ROWS], artefact=exported, calibration=calibration, golden=expected
    )
    version_number = next_version(places.models, name)
    draft = Manifest(
        name=name,
        version=version_number,
        family=config.family,
        description=config.description,
        operations=operations,
        input=InputSpec(size=data.size, range=given.range, image=data.image, feature_names=data.feature_names),
        latent=LatentSpec(size=config.architecture.latent),
        statistics=_statistics(found),
        score=Score(
            kind=score.kind,
            additive=score.additive,
            map_ceiling=map_ceiling(exported, held_out.numpy()) if score.additive else None,
        ),
        calibration=CalibrationSummary(
            size=calibration.size,
            minimum=float(calibration.scores[0]),
            median=float(np.median(calibration.scores)),
            maximum=float(calibration.scores[-1]),
        ),
        metrics=evaluate(
            artefact,
            config,
            train=train,
            test=test,
            calibration=calibration,
            bounds=data.range,
            spread=network.spread,
            labels=labels,
        ),
        hyper_parameters=config.as_json(),
        provenance=_provenance(config, data, splits, digest=digest, command=command),
        artefacts={"torchscript": (TORCHSCRIPT_FILE,)} | ({"onnx": tuple(sorted(second))} if second else {}),
        files={},
    )
    lines = gallery(artefact, config, rows=probe)
    if units is not None and data.image is not None:
        lines = [line._replace(rows=units.outward(torch.from_numpy(line.rows)).numpy()) for line in lines]
    findings = find(
        artefact,
        network,
        config,
        manifest=draft,
        epochs=epochs,
        calibration=calibration,
        test=test,
        labels=labels,
        label_names=data.label_names,
    )
    files = {
        TORCHSCRIPT_FILE: content,
        GOLDEN_FILE: expected.to_bytes(),
        CALIBRATION_FILE: calibration.to_bytes(),
        CARD_FILE: card(draft, findings.advice).encode(),
        REPORT_FILE: findings.to_bytes(),
        PAGE_FILE: page(findings, draft, lines),
        **second,
    }
    if data.image is not None:
        title = f"{name} {version_number}: {config.family.value}, {data.size} values to {config.architecture.latent}"
        scale = float(golden.min()), float(golden.max())
        files[PREVIEW_FILE] = preview(lines, image=data.image, title=title, scale=scale)
    path = write_bundle(places.models, files, manifest=lambda entries: draft.model_copy(update={"files": entries}))
    (run / CHECKPOINT_FILE).unlink(missing_ok=True)
    return Published(path, draft, epochs, run)


def operations_of(family: Family) -> tuple[Operation, ...]:
    """What a bundle of this family offers, in the order in which it is listed."""
    return tuple(operation for operation in Operation if operation in EVERY_FAMILY | SPECIAL.get(family, set()))


def _units(config: Config, data: DataSet, found: Moments) -> Units | None:
    """The units in which rows of these moments are trained on and judged; None for their own."""
    if data.range is None:
        return StandardDeviations(found)
    return None if config.exponent == 1 else Powers(config.exponent, range=data.range)


def _inward(data: DataSet, units: Units) -> DataSet:
    """The same rows in `units`, in which a declared range is [0, 1]."""
    features = transformed(data.features, units.inward)
    return replace(data, features=features, range=None if data.range is None else (0, 1))


def _statistics(found: Moments) -> FeatureStatistics:
    """Seven digits are what a float32 holds; more would only fill the manifest."""

    def rounded(values: Tensor) -> tuple[float, ...]:
        return tuple(float(f"{value:.7g}") for value in values.tolist())

    return FeatureStatistics(
        mean=rounded(found.mean),
        standard_deviation=rounded(found.deviation),
        minimum=rounded(found.minimum),
        maximum=rounded(found.maximum),
    )


def _provenance(config: Config, data: DataSet, splits: Splits, *, digest: str, command: str) -> Provenance:
    return Provenance(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        recipe=config.recipe,
        seed=config.seed,
        data_source=data.source,
        data_digest=digest,
        splits={field: len(rows) for field, rows in splits._asdict().items()},
        source_commit=_source_commit(),
        packages={"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
    )


def _source_commit() -> str | None:
    """The commit of the checkout that this file is in; None where there is none, or where its tree was changed.
    Bundles do not count: they are what is made."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root or git(
            "status", "--porcelain", "--", ".", ":!models"
        ):
            return None
        return git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None
