"""The manifest says all that is known of a bundle, means one thing only, and says it again unchanged."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bundle.errors import ManifestInvalid, ManifestTooLarge, SchemaVersionUnknown
from bundle.manifest import (
    KNOWN_FILES,
    MAX_MANIFEST_BYTES,
    SCHEMA_VERSION,
    FileEntry,
    ImageSpec,
    InputSpec,
    Manifest,
    is_name,
    parse_manifest,
    serialise_manifest,
)
from bundle.operations import Family, Method, Operation, methods_of
from bundle.read import read_bundle
from tests.bundle_factory import make_manifest, operations_of, publish

FILES = {"model.pt": FileEntry(size=3, sha256="a" * 64)}
ALWAYS = {Method.ENCODE, Method.DECODE, Method.RECONSTRUCT, Method.ANOMALY_SCORE}


def parse_changed(**fields: Any) -> Manifest:
    return parse_manifest(json.dumps(json.loads(serialise_manifest(make_manifest(FILES))) | fields).encode())


@pytest.mark.parametrize("family", Family)
def test_what_is_serialised_is_parsed_to_an_equal_manifest(family: Family) -> None:
    manifest = make_manifest(
        FILES,
        family=family,
        calibration=None,
        metrics={"third": 1 / 3, "tiny": 5e-324, "huge": 1e308},
        hyper_parameters={"nested": {"list": [1, 2.5, None, "ü"]}},
    )
    content = serialise_manifest(manifest)
    assert parse_manifest(content) == manifest
    assert serialise_manifest(parse_manifest(content)) == content


def test_a_manifest_is_readable_text(tmp_path: Path) -> None:
    text = (publish(tmp_path) / "manifest.json").read_text(encoding="utf-8")
    assert len(text.splitlines()) > 50
    assert "ünïcode" in text


def test_every_faulty_field_is_named_at_once() -> None:
    with pytest.raises(ManifestInvalid) as refusal:
        parse_changed(name="No Name", version=0, latent={"size": "two"}, surprise=1, files={"model.pt": {"size": 1}})
    for fault in ("name: ", "version: ", "latent.size: ", "surprise: ", "files.model.pt.sha256: "):
        assert fault in str(refusal.value)


def test_the_message_does_not_repeat_what_an_attacker_wrote_at_length() -> None:
    with pytest.raises(ManifestInvalid) as refusal:
        parse_changed(**{"x" * 10_000 + str(number): "y" * 10_000 for number in range(100)})
    assert len(str(refusal.value)) < 5000


def test_only_this_releases_schema_version_is_read() -> None:
    assert parse_changed(schema_version=SCHEMA_VERSION).schema_version == SCHEMA_VERSION
    with pytest.raises(SchemaVersionUnknown, match=rf"schema_version 99; this release reads {SCHEMA_VERSION}"):
        parse_changed(schema_version=99, whatever_it_may_hold=True)


def test_an_endless_manifest_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ManifestTooLarge, match=str(MAX_MANIFEST_BYTES)):
        parse_manifest(b" " * (MAX_MANIFEST_BYTES + 1))


def test_a_manifest_cannot_be_changed() -> None:
    manifest = make_manifest(FILES)
    with pytest.raises(ValidationError, match="frozen"):
        manifest.version = 2  # type: ignore[misc]  # the very thing that must fail
    with pytest.raises(ValidationError, match="frozen"):
        manifest.input.size = 2  # type: ignore[misc]  # the same


@pytest.mark.parametrize(
    ("family", "methods"),
    [
        (Family.VANILLA, ALWAYS | {Method.ANOMALY_MAP}),
        (Family.DENOISING, ALWAYS | {Method.ANOMALY_MAP, Method.DENOISE}),
        (Family.VARIATIONAL, ALWAYS | {Method.ANOMALY_MAP, Method.ENCODE_DISTRIBUTION}),
    ],
)
def test_each_family_exports_its_methods(family: Family, methods: set[Method]) -> None:
    assert make_manifest(FILES, family=family).methods == methods


def test_a_score_that_is_no_sum_has_no_map() -> None:
    manifest = make_manifest(FILES, score={"kind": "negative_elbo", "additive": False})
    assert manifest.methods == ALWAYS


@pytest.mark.parametrize(
    ("operation", "methods"),
    [
        (Operation.SAMPLE, {Method.DECODE}),
        (Operation.INTERPOLATE, {Method.ENCODE, Method.DECODE}),
        (Operation.ENCODE, {Method.ENCODE}),
        (Operation.DENOISE, {Method.DENOISE}),
    ],
)
def test_an_operation_needs_the_methods_that_it_calls(operation: Operation, methods: set[Method]) -> None:
    assert methods_of(frozenset({operation}), variational=False, additive_score=False) == methods


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operations": ("encode", "encode")}, "once each"),
        ({"operations": ()}, "at least 1"),
        ({"operations": operations_of(Family.VARIATIONAL)}, "prior to sample"),
        ({"artefacts": {"onnx": ("encode.onnx",)}}, "torchscript"),
        ({"artefacts": {"torchscript": ("model.pt", "model.pt")}}, "torchscript"),
        ({"artefacts": {"torchscript": ("model.pt",), "pickle": ("model.pkl",)}}, "pickle"),
        ({"input": InputSpec(size=5)}, "statistics.mean must have 5 values"),
        ({"score": {"kind": "reconstruction_error", "additive": True}}, "map_ceiling"),
        ({"score": {"kind": "reconstruction_error", "additive": False, "map_ceiling": 1}}, "map_ceiling"),
        ({"metrics": {"mse": float("nan")}}, "finite"),
        ({"hyper_parameters": {"rate": float("inf")}}, "finite"),
    ],
)
def test_a_manifest_that_contradicts_itself_cannot_be_made(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_manifest(FILES, **changes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 3, "range": (0, 1), "image": ImageSpec(height=2, width=2, channels=1)}, "4 values"),
        ({"size": 4, "image": ImageSpec(height=2, width=2, channels=1)}, "declared range"),
        ({"size": 2, "range": (1, 1)}, "lower to a higher"),
        ({"size": 2, "range": (0, float("inf"))}, "finite"),
        ({"size": 2, "feature_names": ("a",)}, "2 different names"),
        ({"size": 2, "feature_names": ("a", "a")}, "2 different names"),
        ({"size": 2, "feature_names": ("a", "b", "b")}, "2 different names"),
        ({"size": 0}, "greater than 0"),
    ],
)
def test_an_input_that_contradicts_itself_cannot_be_described(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        InputSpec(**fields)


def test_an_uncalibrated_bundle_is_read_without_calibration(tmp_path: Path) -> None:
    assert read_bundle(publish(tmp_path, calibration=None)).calibration is None


@pytest.mark.parametrize("text", ["a", "fashion-vae", "0", "a.b_c-d", "a" * 64])
def test_names(text: str) -> None:
    assert is_name(text)


@pytest.mark.parametrize(
    "text", ["", ".a", "-a", "_a", "..", "A", "a/b", "a\\b", "a b", "a\n", "ä", "٣", "a\0", "a" * 65]
)
def test_what_is_not_a_name(text: str) -> None:
    assert not is_name(text)
    with pytest.raises(ValidationError, match="name"):
        make_manifest(FILES, name=text)


def test_known_files_are_plain_names_without_the_manifest() -> None:
    assert "manifest.json" not in KNOWN_FILES
    assert all(Path(name).name == name and not name.startswith(".") for name in KNOWN_FILES)
    assert {f"{method}.onnx" for method in Method} <= KNOWN_FILES
