"""What the catalog and the health routes answer."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from bundle.manifest import CalibrationSummary, InputSpec, LatentSpec, Provenance, Score

__all__ = ["Live", "ModelDescription", "ModelList", "Ready"]


def _example(example: dict[str, JsonValue]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


# The bundle that the examples of the operations are for.
_SUMMARY: dict[str, JsonValue] = {
    "name": "pumps",
    "family": "vanilla",
    "version": 2,
    "versions": [1, 2],
    "pinned": 2,
    "description": "Four sensors of a pump at rest",
    "operations": ["encode", "decode", "reconstruct", "anomaly-score", "interpolate"],
    "input": {"size": 4, "range": None, "image": None, "feature_names": ["flow", "pressure", "current", "heat"]},
    "latent": {"size": 2},
    "digest": "5f0c2f7a6f1f2b1c0a4de7a07e9f1d0b9b4c2f3a8e6d7c5b4a39281706f5e4d3",
}
_REFUSED: list[JsonValue] = [
    {
        "name": "pumps",
        "version": 3,
        "reason": "hash-mismatch",
        "detail": "the bytes of model.pt are not those that were published (SHA-256 differs)",
    }
]


class ModelSummary(BaseModel):
    """A bundle in short."""

    name: str
    family: str
    version: int = Field(description="in the list the one that answers where none is named: the pinned or the newest")
    versions: list[int]
    pinned: int | None = Field(description="the version that shall answer where none is named, if somebody chose one")
    description: str
    operations: list[str] = Field(description="what it can do, as the last segment of a path")
    input: InputSpec
    latent: LatentSpec
    digest: str


class RefusedVersion(BaseModel):
    """A version that is not served as it stands in the folder, and why. If it was damaged after it was loaded, what was
    loaded is still served."""

    name: str
    version: int
    reason: str
    detail: str


class ModelList(BaseModel):
    """Everything that is served."""

    model_config = _example({"models": [_SUMMARY], "refused": _REFUSED, "unloaded": ["valves"]})
    models: list[ModelSummary]
    refused: list[RefusedVersion]
    unloaded: list[str] = Field(description="names in the folder that somebody has unloaded")


class Accepts(BaseModel):
    """What inputs may look like."""

    media_types: list[str]
    row_shapes: list[list[int]]
    dtype: str
    paths: dict[str, str]


class CalibrationDescription(CalibrationSummary):
    """The held-out scores in short, and the thresholds that they give for common alphas."""

    smallest_alpha: float = Field(description="1 / (n + 1): no smaller alpha can raise an alarm")
    thresholds: dict[str, float]


class ModelDescription(ModelSummary):
    """A bundle in full."""

    model_config = _example(
        {
            **_SUMMARY,
            "accepts": {
                "media_types": ["application/json", "application/x-npy"],
                "row_shapes": [[4]],
                "dtype": "float32",
                "paths": {"encode": "/v1/models/pumps/encode", "anomaly_score": "/v1/models/pumps/anomaly-score"},
            },
            "score": {"kind": "reconstruction_error", "additive": True, "map_ceiling": 0.125},
            "calibration": {
                "size": 4000,
                "minimum": 0.001,
                "median": 0.0085,
                "maximum": 0.09,
                "smallest_alpha": 1 / 4001,
                "thresholds": {"0.001": 0.078, "0.01": 0.061, "0.05": 0.0425, "0.1": 0.031},
            },
            "metrics": {"test_mse": 0.0092},
            "hyper_parameters": {"hidden": [16], "latent": 2},
            "provenance": {
                "created_at": "2026-01-01T00:00:00Z",
                "command": "diabolo train pumps",
                "recipe": "pumps",
                "seed": 1,
                "data_source": "pumps",
                "data_digest": "9d1f0c5b7a3e2468ace013579bdf02468ace13579bdf02468ace13579bdf0246",
                "splits": {"train": 20000, "calibration": 4000, "test": 4000},
                "source_commit": None,
                "packages": {"torch": "2.15.0"},
            },
            "device": "cpu",
            "golden_error": 2.4e-7,
            "load_seconds": 0.125,
            "examples": 16,
            "refused": _REFUSED,
        }
    )
    accepts: Accepts
    score: Score
    calibration: CalibrationDescription | None
    metrics: dict[str, float]
    hyper_parameters: dict[str, Any]
    provenance: Provenance
    device: str
    golden_error: float = Field(description="largest absolute error on the golden probe, on this device")
    load_seconds: float
    examples: int = Field(description="rows under /examples/{index}")
    refused: list[RefusedVersion]


class Live(BaseModel):
    """The process answers."""

    model_config = _example({"live": True})
    live: bool


class Ready(BaseModel):
    """Whether traffic should be sent here, and what is missing if not."""

    model_config = _example(
        {
            "ready": True,
            "draining": False,
            "scanned": True,
            "serving": ["pumps/2"],
            "unserved": [],
            "faults": {},
            "unmet": {"pumps": "version 3 is not in the folder"},
            "revision": 7,
            "problem": "desired.json is wrong: models.pumps.pinned: Input should be a valid integer",
        },
    )
    ready: bool
    draining: bool
    scanned: bool = Field(description="the folder of bundles has been gone through once")
    serving: list[str]
    unserved: list[str] = Field(description="names without a version that can answer")
    faults: dict[str, str] = Field(description="loaded bundles that do not answer just now, and why")
    unmet: dict[str, str] = Field(description="names that are not served as they are pinned (yet), and why")
    revision: int | None = Field(description="of the pins and unloads that are in force; null where none can be kept")
    problem: str | None = Field(description="what is wrong with the file of pins and unloads")
