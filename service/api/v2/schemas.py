"""The documents of the Open Inference Protocol, version 2, as they stand on the wire."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "Failure",
    "IndexEntry",
    "IndexRequest",
    "InferAnswer",
    "InferRequest",
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

Parameters = dict[str, str | int | float | bool]
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]


class Tensor(BaseModel):
    """A tensor: its values follow in `data`, row by row, flat or nested, or after the JSON where
    `parameters.binary_data_size` says how many bytes they are."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    name: str = Field(examples=["input"])
    shape: list[int] = Field(examples=[[1, 4]])
    datatype: Datatype = Field(examples=["FP32"])
    parameters: Parameters = Field(default_factory=dict)
    data: list[Any] | None = None


class RequestedOutput(BaseModel):
    """An output that is wanted. `parameters.binary_data` asks for it after the JSON instead of in it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    name: str
    parameters: Parameters = Field(default_factory=dict)


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
    parameters: Parameters = Field(default_factory=dict)
    inputs: list[Tensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] | None = Field(None, min_length=1)


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
    parameters: Parameters = Field(default_factory=dict)


class UnloadRequest(BaseModel):
    """`parameters.unload_dependents`, which Triton's clients send, changes nothing: no bundle depends on another."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"examples": [{"parameters": {"unload_dependents": False}}]}
    )
    parameters: Parameters = Field(default_factory=dict)


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
