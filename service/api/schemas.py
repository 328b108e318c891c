"""What travels over `/v1`: the requests, which are validated, and the answers, which the OpenAPI page shows.

Tensors are declared here and converted by the codecs: pydantic would take ten times as long and know no better.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, WithJsonSchema, model_validator

from service.operations import DEFAULT_ALPHA, MAX_FLOAT32, MAX_SEED

__all__ = [
    "AnomalyScoreAnswer",
    "AnomalyScoreRequest",
    "DecodeAnswer",
    "DecodeRequest",
    "DenoiseAnswer",
    "DenoiseRequest",
    "EncodeAnswer",
    "EncodeRequest",
    "Examples",
    "InterpolateAnswer",
    "InterpolateRequest",
    "OperationRequest",
    "Problem",
    "ReconstructAnswer",
    "ReconstructRequest",
    "SampleAnswer",
    "SampleRequest",
    "whole",
]


def _array(description: str, items: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"type": "array", "items": items, "description": description})


def whole(value: object) -> object:
    """The value, as an integer where it is one: to JSON, 2.0 is, and some languages write it so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_NUMBER = {"type": "number"}
_FLOAT32 = {"type": "number", "minimum": -MAX_FLOAT32, "maximum": MAX_FLOAT32}
_NESTED: dict[str, Any] = {"anyOf": [{"type": "array", "items": {}, "minItems": 1}, _FLOAT32]}
_BY_NAME = {"type": "object", "additionalProperties": _FLOAT32, "minProperties": 1}
_INPUTS: dict[str, Any] = {"anyOf": [*_NESTED["anyOf"], _BY_NAME]}
_SEED = {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
Rows = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": _INPUTS, "minItems": 1}, _BY_NAME],
            "description": "rows, or one row by itself; each flat or nested as height x width [x channels], or an "
            "object by feature name where features have names",
        }
    ),
]
CodeRows = Annotated[
    Any,
    WithJsonSchema(
        {"type": "array", "items": _NESTED, "minItems": 1, "description": "codes, one row each, or one by itself"}
    ),
]
End = Annotated[
    Any,
    WithJsonSchema(
        {
            "anyOf": [{"type": "array", "items": _INPUTS, "minItems": 1}, _BY_NAME, _SEED],
            "description": "one row, or a list of one: an input, a code, or a seed, as `space` says",
        }
    ),
]
Integer = Annotated[int, BeforeValidator(whole)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(whole)]
Alpha = Annotated[float, WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1})]
Matrix = Annotated[Any, _array("float32 rows", {"type": "array", "items": _NUMBER})]
Vector = Annotated[Any, _array("one number per row", _NUMBER)]
Decimals = Annotated[
    Annotated[int, Field(ge=0, le=8), BeforeValidator(whole)] | None,
    Field(
        description="round the numbers of a JSON answer to so many decimals; without it they are exact, every float32",
    ),
]

# The examples are for an imagined bundle with rows of four values and codes of two.
_ROW: list[JsonValue] = [0.0, 0.25, 0.5, 1.0]
_CODE: list[JsonValue] = [0.8125, -1.375]
_BOTH: dict[str, JsonValue] = {
    "properties": {"alpha": {"type": "number"}, "threshold": {"type": "number"}},
    "required": ["alpha", "threshold"],
}
_IDENTITY: dict[str, JsonValue] = {
    "model": "pumps",
    "version": 1,
    "digest": "5f0c2f7a6f1f2b1c0a4de7a07e9f1d0b9b4c2f3a8e6d7c5b4a39281706f5e4d3",
    "request_id": "0f8fad5bd9cb469fa16570867728950e",
}


class OperationRequest(BaseModel):
    """A request's body. Unknown fields are refused, so that a misspelt option is never silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EncodeRequest(OperationRequest):
    """Inputs to encode."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": [_ROW]}]})
    inputs: Rows
    log_variances: bool = Field(False, description="also answer log-variances; variational bundles only")
    decimals: Decimals = None


class DecodeRequest(OperationRequest):
    """Codes to decode."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"latents": [_CODE]}]})
    latents: CodeRows
    decimals: Decimals = None


class ReconstructRequest(OperationRequest):
    """Inputs to reconstruct."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": [_ROW]}]})
    inputs: Rows
    decimals: Decimals = None


class DenoiseRequest(OperationRequest):
    """Inputs to rid of noise."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": [[0.1, 0.19, 0.62, 0.93]]}]})
    inputs: Rows
    decimals: Decimals = None


class AnomalyScoreRequest(OperationRequest):
    """Inputs to score, and what counts as an anomaly."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": [_ROW], "alpha": 0.05}], "not": _BOTH})
    inputs: Rows
    alpha: Alpha | None = Field(
        None,
        description=f"flag rows whose p-value is at most this: the share of normal rows that may be flagged. "
        f"Without alpha and threshold: {DEFAULT_ALPHA}. In [1/(n + 1), 1), n the calibration size",
    )
    threshold: float | None = Field(
        None,
        ge=-MAX_FLOAT32,
        le=MAX_FLOAT32,
        description="flag rows whose score is above this, instead of by alpha",
    )
    maps: bool = Field(False, description="also answer each element's share of the score; additive scores only")
    decimals: Decimals = None

    @model_validator(mode="after")
    def _one_policy(self) -> Self:
        if self.alpha is not None and self.threshold is not None:
            raise ValueError("give alpha or threshold, not both")
        return self


class SampleRequest(OperationRequest):
    """How many rows to draw, and from which seed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"count": 2, "seed": 7}]})
    count: Integer = Field(ge=1, description="rows to draw")
    seed: Seed | None = Field(None, description="any seed gives the same rows for ever; none draws one")
    offset: Seed = Field(0, description="the number of the first row: row i depends on offset + i alone")
    temperature: float = Field(1, ge=0, le=100, description="the standard deviation of the noise")
    decimals: Decimals = None


class InterpolateRequest(OperationRequest):
    """The two ends of a path, and how to walk it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"space": "latents", "start": [0.0, 1.0], "end": [1.0, 0.0], "steps": 3}]}
    )
    space: Literal["inputs", "latents", "seeds"] = Field("inputs", description="what start and end are")
    start: End
    end: End
    steps: Integer = Field(ge=2, description="rows to answer, both ends included")
    method: Literal["linear", "slerp"] = Field("linear", description="a straight path, or along an arc")
    decimals: Decimals = None


class Answer(BaseModel):
    """What every answer names."""

    model: str
    version: int
    digest: str = Field(description="SHA-256 of the bundle's manifest: names the exact program that answered")
    request_id: str
    warnings: list[str] = Field(description="what looks wrong about a request that could be answered all the same")


def _example(**fields: JsonValue) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [{**_IDENTITY, **fields, "warnings": []}]})


class EncodeAnswer(Answer):
    """Codes; the mean codes of a variational bundle."""

    model_config = _example(latents=[_CODE])
    latents: Matrix
    log_variances: Matrix | None = Field(None, description="where asked for")


class DecodeAnswer(Answer):
    """Decoded rows."""

    model_config = _example(outputs=[_ROW])
    outputs: Matrix


class ReconstructAnswer(Answer):
    """Reconstructed rows and their errors."""

    model_config = _example(outputs=[[0.015625, 0.25, 0.46875, 0.984375]], errors=[0.00036621094])
    outputs: Matrix
    errors: Vector = Field(description="mean squared error of each row, in squared input units")


class DenoiseAnswer(Answer):
    """Rows without their noise."""

    model_config = _example(outputs=[_ROW])
    outputs: Matrix


class PolicyAnswer(BaseModel):
    """By what a row counts as anomalous: p <= alpha, or score > threshold; "none" when the bundle is not calibrated."""

    kind: Literal["alpha", "threshold", "none"]
    alpha: float | None


class AnomalyScoreAnswer(Answer):
    """Scores and verdicts. A higher score is always more anomalous."""

    model_config = _example(
        scores=[0.011],
        p_values=[0.4125],
        is_anomaly=[False],
        threshold=0.0425,
        policy={"kind": "alpha", "alpha": 0.05},
        calibration_size=4000,
    )
    scores: Vector
    p_values: Vector | None = Field(description="conformal p-values: uniform on normal rows, for every bundle alike")
    is_anomaly: list[bool] | None
    threshold: float | None
    policy: PolicyAnswer
    calibration_size: int
    maps: Matrix | None = Field(None, description="where asked for; the mean of a row is its score")


class SampleAnswer(Answer):
    """Drawn rows, with the codes that they were decoded from."""

    model_config = _example(outputs=[_ROW, _ROW], latents=[_CODE, _CODE], seed=7)
    outputs: Matrix
    latents: Matrix
    seed: int


class InterpolateAnswer(Answer):
    """The rows along the path, with their codes; the first and the last decode the two ends."""

    model_config = _example(outputs=[_ROW, _ROW, _ROW], latents=[[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    outputs: Matrix
    latents: Matrix


class Examples(BaseModel):
    """One row of the bundle's own probe, ready to be posted back to it."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": [_ROW]}]})
    inputs: Matrix


class ProblemFault(BaseModel):
    """One thing that is wrong, and where."""

    detail: str
    pointer: str = Field(description="JSON Pointer fragment into the body (RFC 6901)")


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="a page that explains this kind of problem")
    title: str
    status: int
    detail: str = Field(description="what was wrong with this request, and what would be right")
    instance: str
    request_id: str
    errors: list[ProblemFault] | None = Field(None, description="every wrong place, where the content is at fault")
    retry_after_s: int | None = Field(None, description="when to try again, as in Retry-After")
