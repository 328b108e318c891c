"""What the catalog and the health routes answer."""

from typing import Any

from pydantic import BaseModel, Field

from bundle.manifest import CalibrationSummary, InputSpec, LatentSpec, Provenance, Score

__all__ = ["Live", "ModelDescription", "ModelList", "Ready"]


class ModelSummary(BaseModel):
    """A bundle in short."""

    name: str
    family: str
    version: int = Field(description="the newest version, which answers where none is named")
    versions: list[int]
    description: str
    operations: list[str] = Field(description="what it can do, as the last segment of a path")
    input: InputSpec
    latent: LatentSpec
    digest: str


class RefusedVersion(BaseModel):
    """A version in the folder that is not served, and why."""

    name: str
    version: int
    reason: str
    detail: str


class ModelList(BaseModel):
    """Everything that is served."""

    models: list[ModelSummary]
    refused: list[RefusedVersion]


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

    live: bool


class Ready(BaseModel):
    """Whether traffic should be sent here, and what is missing if not."""

    ready: bool
    draining: bool
    scanned: bool = Field(description="the folder of bundles has been gone through once")
    serving: list[str]
    unserved: list[str] = Field(description="names without a version that can answer")
