"""The documents of the Open Inference Protocol, version 2, as they stand on the wire."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from service.api.schemas import whole
from service.operations import MAX_FLOAT32

__all__ = [
    "Failure",
    "IndexEntry",
    "IndexRequest",
    "InferAnswer",
    "InferRequest",
    "InputTensor",
    "LoadRequest",
    "Metadata",
    "ModelReady",
    "Parameters",
    "PendingWorker",
    "RepositoryAnswer",
    "RequestedOutput",
    "ServerLive",
    "ServerMetadata",
    "ServerReady",
    "Tensor",
    "TensorMetadata",
    "UnloadRequest",
]

MOST_MEMBERS = 64
MOST_DIMENSIONS = 8


def few(value: Any) -> Any:
    """The value, unless it has more members than any needs: pydantic would look at each. Raises ValueError."""
    if isinstance(value, dict) and len(value) > MOST_MEMBERS:
        raise ValueError(f"an object of at most {MOST_MEMBERS} members belongs here")
    return value


Parameters = Annotated[dict[str, str | int | float | bool], BeforeValidator(few)]
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
NO_NUMBERS = ("BOOL", "BYTES")
OutputName = Literal["reconstruction", "latent", "denoised", "score", "p_value", "is_anomaly", "anomaly_map"]


def _parameters(*, others: bool = True, one_of: tuple[str, ...] = (), **known: dict[str, Any]) -> WithJsonSchema:
    """Parameters of which these are known, not all of `one_of` are there, and `others` are taken without meaning."""
    scalar = {"anyOf": [{"type": kind} for kind in ("string", "number", "boolean")]}
    schema = {"type": "object", "properties": known, "additionalProperties": scalar if others else False}
    return WithJsonSchema({**schema, "not": {"required": list(one_of)}} if one_of else schema)


VERSION = {
    "anyOf": [
        {"type": "string", "pattern": "^(newest|[1-9][0-9]{0,17})$"},
        {"type": "integer", "minimum": 1, "maximum": 10**18 - 1},
    ]
}
InferParameters = Annotated[
    Parameters,
    _parameters(
        one_of=("alpha", "threshold"),
        operation={"enum": ["encode", "reconstruct", "denoise", "anomaly_score"], "default": "reconstruct"},
        alpha={"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        threshold={"type": "number", "minimum": -MAX_FLOAT32, "maximum": MAX_FLOAT32},
        binary_data_output={"type": "boolean", "default": False},
    ),
]


class Tensor(BaseModel):
    """A tensor: its values follow in `data`, row by row, flat or nested, or after the JSON where
    `parameters.binary_data_size` says how many bytes they are."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    name: str = Field(examples=["input"])
    shape: list[Annotated[int, BeforeValidator(whole)]] = Field(examples=[[1, 4]])
    datatype: Datatype = Field(examples=["FP32"])
    parameters: Annotated[Parameters, _parameters(binary_data_size={"type": "integer", "minimum": 0})] = Field(
        default_factory=dict
    )
    data: list[Any] | None = None


class InputTensor(Tensor):
    """The rows, in `data`, flat or nested, or after the JSON where `parameters.binary_data_size` says how many bytes
    they are. FP16 has no form in JSON."""

    name: Annotated[str, WithJsonSchema({"const": "input", "type": "string"})]
    shape: Annotated[
        list[Annotated[int, BeforeValidator(whole)]],
        Field(max_length=MOST_DIMENSIONS),
        WithJsonSchema({"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1}),
    ] = Field(description="[rows, values of a row], or the shape of the image that a row is in place of the latter")
    datatype: Annotated[
        Datatype,
        WithJsonSchema({"type": "string", "enum": [kind for kind in get_args(Datatype) if kind not in NO_NUMBERS]}),
    ]


class RequestedOutput(BaseModel):
    """An output that is wanted. `parameters.binary_data` asks for it after the JSON instead of in it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    name: Annotated[str, WithJsonSchema({"type": "string", "enum": get_args(OutputName)})]
    parameters: Annotated[Parameters, _parameters(binary_data={"type": "boolean"})] = Field(default_factory=dict)


class InferRequest(BaseModel):
    """Rows to be worked on. Only what `outputs` name is computed; without it, what `parameters.operation` gives
    (encode, reconstruct, denoise or anomaly_score); without both, the reconstruction. Further parameters: `alpha` or
    `threshold` for verdicts, `binary_data_output` for outputs that do not say it themselves."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "id": "1",
                    "inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [0.1, 0.5, 0.5, 0.9]}],
                    "outputs": [{"name": "score"}, {"name": "p_value"}],
                }
            ]
        },
    )
    id: str | None = None
    model_name: str | None = Field(None, description="as in the path, if it is given; KServe's client gives it")
    model_version: str | None = Field(None, description="as in the path, if it is given")
    parameters: InferParameters = Field(default_factory=dict)
    inputs: list[Annotated[InputTensor, BeforeValidator(few)]] = Field(min_length=1, max_length=1)
    outputs: list[Annotated[RequestedOutput, BeforeValidator(few)]] | None = Field(
        None, min_length=1, max_length=MOST_MEMBERS
    )


class InferAnswer(BaseModel):
    """The outputs, in the order in which they were asked for."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model_name": "pumps",
                    "model_version": "1",
                    "id": "1",
                    "outputs": [
                        {"name": "score", "shape": [1], "datatype": "FP32", "data": [0.012]},
                        {"name": "p_value", "shape": [1], "datatype": "FP64", "data": [0.25]},
                    ],
                }
            ]
        }
    )
    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters | None = Field(None, description="`warning`: a sentence where inputs look wrong")
    outputs: list[Tensor]


class TensorMetadata(BaseModel):
    """A tensor that a bundle takes or gives; -1 stands for any number of rows."""

    name: str
    datatype: Datatype
    shape: list[int]


class Metadata(BaseModel):
    """What a bundle takes and gives."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "pumps",
                    "versions": ["1"],
                    "platform": "pytorch_torchscript",
                    "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}],
                    "outputs": [{"name": "reconstruction", "datatype": "FP32", "shape": [-1, 4]}],
                }
            ]
        }
    )
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(BaseModel):
    """What this server is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "diabolo", "version": "0.1.0", "extensions": ["binary_tensor_data"]}]}
    )
    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"live": True}]})
    live: bool


class ServerReady(BaseModel):
    """Whether traffic should be sent here."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"live": True, "ready": True}]})
    live: bool
    ready: bool


class ModelReady(BaseModel):
    """Whether a bundle can answer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "pumps", "ready": True}]})
    name: str
    ready: bool


class IndexRequest(BaseModel):
    """`ready`: list only what can answer."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [{"ready": True}]})
    ready: bool = False


class IndexEntry(BaseModel):
    """A version of a bundle, and why it cannot answer where it cannot."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "pumps", "version": "1", "state": "READY", "reason": ""}]}
    )
    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class LoadRequest(BaseModel):
    """`parameters.version`: a version to pin, such as "2", or "newest" to let the newest one answer again."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"examples": [{"parameters": {"version": "1"}}]}
    )
    parameters: Annotated[Parameters, _parameters(others=False, version=VERSION)] = Field(default_factory=dict)


class UnloadRequest(BaseModel):
    """`parameters.unload_dependents`, which Triton's clients send, changes nothing: no bundle depends on another."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"examples": [{"parameters": {"unload_dependents": False}}]}
    )
    parameters: Annotated[Parameters, _parameters(others=False, unload_dependents={"type": "boolean"})] = Field(
        default_factory=dict
    )


class PendingWorker(BaseModel):
    """A live worker in which something is not in force yet."""

    worker: str = Field(description="its host and process id")
    reason: str


class RepositoryAnswer(BaseModel):
    """How a name is served now by the worker that answers, and which workers do not serve it so yet."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "pumps", "state": "READY", "version": "1", "pinned": "1", "revision": 7, "pending": []},
                {
                    "name": "pumps",
                    "state": "READY",
                    "version": "1",
                    "pinned": "1",
                    "revision": 7,
                    "pending": [{"worker": "host/4711", "reason": "it has not read this yet"}],
                    "error": "this was written down, but is not in force in every worker yet: "
                    "host/4711: it has not read this yet",
                },
            ]
        }
    )
    name: str
    state: Literal["READY", "UNAVAILABLE"]
    version: str | None = Field(description="what answers where no version is named")
    pinned: str | None
    revision: int = Field(description="of the state file; it grows with every change")
    pending: list[PendingWorker]
    error: str | None = Field(None, description="with 202: what is pending, for clients that read no more than this")


class Failure(BaseModel):
    """What was wrong, and what would be right."""

    error: str
