"""The manifest: everything that is known of a bundle without opening any other of its files."""

import json
import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from bundle.errors import ManifestInvalid, ManifestTooLarge, SchemaVersionUnknown
from bundle.operations import Family, Method, Operation, methods_of

__all__ = [
    "CALIBRATION_FILE",
    "CARD_FILE",
    "GOLDEN_FILE",
    "KNOWN_FILES",
    "MANIFEST_FILE",
    "MAX_MANIFEST_BYTES",
    "NAME_PATTERN",
    "PAGE_FILE",
    "PREVIEW_FILE",
    "REPORT_FILE",
    "SCHEMA_VERSION",
    "SIGNATURE_FILE",
    "TORCHSCRIPT_FILE",
    "WEIGHTS_FILE",
    "CalibrationSummary",
    "FeatureStatistics",
    "FileEntry",
    "ImageSpec",
    "InputSpec",
    "LatentSpec",
    "Manifest",
    "Provenance",
    "Score",
    "ScoreKind",
    "is_name",
    "onnx_file",
    "parse_manifest",
    "serialise_manifest",
]

SCHEMA_VERSION = 1
MANIFEST_FILE = "manifest.json"
TORCHSCRIPT_FILE = "model.pt"
WEIGHTS_FILE = "weights.bin"
GOLDEN_FILE = "golden.npz"
CALIBRATION_FILE = "calibration.npy"
PREVIEW_FILE = "preview.png"
CARD_FILE = "CARD.md"
REPORT_FILE = "report.json"
PAGE_FILE = "report.html"
SIGNATURE_FILE = "model.sig"  # vouches for the manifest, so the manifest cannot list it


def onnx_file(method: Method) -> str:
    """The name of the ONNX graph of a method; those of a bundle share the weights in weights.bin."""
    return f"{method.value}.onnx"


KNOWN_FILES = frozenset(
    {
        TORCHSCRIPT_FILE,
        GOLDEN_FILE,
        CALIBRATION_FILE,
        PREVIEW_FILE,
        CARD_FILE,
        REPORT_FILE,
        PAGE_FILE,
        WEIGHTS_FILE,
    }
    | {onnx_file(method) for method in Method}
)

# Per-feature statistics of a 64 x 64 colour image take about 0.6 MB; what is far above that is an attack or a mistake.
MAX_MANIFEST_BYTES = 8 * 2**20

ScoreKind = Literal[
    "reconstruction_error",
    "weighted_error",
    "negative_elbo",
    "mahalanobis",
    "mahalanobis_residual",
    "rapp_sap",
    "rapp_nap",
]

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ImageSpec(_Frozen):
    """A row is an image: pixels row by row, channels last."""

    height: int = Field(gt=0, le=4096)
    width: int = Field(gt=0, le=4096)
    channels: Literal[1, 3]

    @property
    def size(self) -> int:
        """Values in one row."""
        return self.height * self.width * self.channels


class InputSpec(_Frozen):
    """What one row of d float32 values means."""

    size: int = Field(gt=0, description="d, the number of values in a row")
    range: tuple[float, float] | None = Field(default=None, description="the declared lowest and highest value")
    image: ImageSpec | None = None
    feature_names: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.image is not None and self.image.size != self.size:
            raise ValueError(f"an image of {self.image.size} values cannot be a row of {self.size}")
        if self.image is not None and self.range is None:
            raise ValueError("an image needs a declared range")
        names = self.feature_names
        if names is not None and not len(names) == len(set(names)) == self.size:
            raise ValueError(f"feature_names must be {self.size} different names")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("the range must go from a lower to a higher value")
        return self


class LatentSpec(_Frozen):
    """What one code means: k float32 values."""

    size: int = Field(gt=0, description="k, the number of values in a code")


class FeatureStatistics(_Frozen):
    """Per-feature statistics of the training split, each of length d, in input units."""

    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]


class Score(_Frozen):
    """What `anomaly_score` computes. A higher score is always more anomalous."""

    kind: ScoreKind
    additive: bool = Field(description="the score is the mean over a row's elements of `anomaly_map`")
    map_ceiling: float | None = Field(
        default=None,
        gt=0,
        description="the value of `anomaly_map` from which a heat map is fully hot: 99.95 % of the elements of "
        "held-out normal rows lie below it",
    )


class CalibrationSummary(_Frozen):
    """The calibration scores in short; all of them are in calibration.npy."""

    size: int = Field(gt=0)
    minimum: float
    median: float
    maximum: float


class Provenance(_Frozen):
    """Where the bundle came from, in enough detail to make it again."""

    created_at: str = Field(description="RFC 3339, UTC")
    command: str
    recipe: str
    seed: int
    data_source: str
    data_digest: str = Field(description="SHA-256 of the data set's values and labels")
    splits: dict[str, int] = Field(description="rows in each split")
    source_commit: str | None = Field(default=None, description="null when trained outside a clean checkout")
    packages: dict[str, str]


class FileEntry(_Frozen):
    """Size in bytes and SHA-256 of one file of the bundle."""

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(_Frozen):
    """manifest.json of schema version 1."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    version: int = Field(gt=0)
    family: Family
    description: str = ""
    operations: tuple[Operation, ...] = Field(min_length=1)
    input: InputSpec
    latent: LatentSpec
    statistics: FeatureStatistics
    score: Score
    calibration: CalibrationSummary | None = Field(description="null: not calibrated, so no p-values")
    metrics: dict[str, float] = Field(description="quality figures on the test split")
    hyper_parameters: dict[str, JsonValue]
    provenance: Provenance
    artefacts: dict[Literal["torchscript", "onnx"], tuple[str, ...]]
    files: dict[Annotated[str, Field(max_length=255)], FileEntry]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(set(self.operations)) != len(self.operations):
            raise ValueError("operations must be named once each")
        json.dumps(self.hyper_parameters, allow_nan=False)  # in JSON, pydantic lets NaN and 1e999 through here
        if Operation.SAMPLE in self.operations and not self.variational:
            raise ValueError("only a variational bundle has a prior to sample from")
        if self.artefacts.get("torchscript") != (TORCHSCRIPT_FILE,):
            raise ValueError(f"artefacts.torchscript must be [{TORCHSCRIPT_FILE!r}]")
        graphs = self.artefacts.get("onnx")
        if graphs is not None and sorted(graphs) != sorted([*map(onnx_file, self.methods), WEIGHTS_FILE]):
            raise ValueError(f"artefacts.onnx must be a graph for each method, and {WEIGHTS_FILE!r}")
        for field, values in self.statistics:
            if len(values) != self.input.size:
                raise ValueError(f"statistics.{field} must have {self.input.size} values")
        if self.score.additive != (self.score.map_ceiling is not None):
            raise ValueError("score.map_ceiling belongs to an additive score, and only to one")
        return self

    @property
    def variational(self) -> bool:
        """True when codes are distributions, with a prior to sample from."""
        return self.family is Family.VARIATIONAL

    @property
    def methods(self) -> frozenset[Method]:
        """The methods that every artefact of this bundle exports."""
        return methods_of(frozenset(self.operations), variational=self.variational, additive_score=self.score.additive)


class _SchemaVersion(BaseModel):
    schema_version: int


def parse_manifest(content: bytes) -> Manifest:
    """The manifest that these bytes hold.

    Raises ManifestTooLarge, SchemaVersionUnknown, or ManifestInvalid with all fields' faults (20 at most) at once.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise ManifestTooLarge(f"manifest.json has {len(content)} bytes; at most {MAX_MANIFEST_BYTES} are read")
    try:
        schema_version = _SchemaVersion.model_validate_json(content, strict=True).schema_version
        if schema_version != SCHEMA_VERSION:
            raise SchemaVersionUnknown(
                f"manifest.json has schema_version {schema_version}; this release reads {SCHEMA_VERSION}"
            )
        manifest = Manifest.model_validate_json(content, strict=True)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part)[:64] for part in fault['loc']) or 'manifest'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)[:20]
        )
        raise ManifestInvalid(f"manifest.json is not a valid manifest: {faults}") from None
    # Pydantic lets the last of two equal keys win; other readers might take the first.
    json.loads(content, object_pairs_hook=_refuse_repeated)
    return manifest


def _refuse_repeated(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ManifestInvalid("manifest.json is not a valid manifest: a key stands twice in one object")


def is_name(text: str) -> bool:
    """True when `text` can name a bundle."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def serialise_manifest(manifest: Manifest) -> bytes:
    """The bytes of manifest.json: readable, and the same for equal manifests."""
    return (json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n").encode()
