"""Each operation as it stands on the wire: which tensors it takes, what it makes of them, how its answer can look."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from pydantic import BaseModel

from bundle.calibration import Floats
from bundle.manifest import Manifest
from bundle.operations import Operation
from service import operations
from service.api import schemas
from service.api.answers import Answer
from service.api.media import Media
from service.api.requests import Call, Form, Width
from service.codecs.flat_json import Extent
from service.codecs.images import heat_png_from_maps, png_from_rows
from service.codecs.rows import RowSpec
from service.engine.loaded import LoadedModel
from service.errors import Fault, InvalidContent, TooManyRows

__all__ = ["ADAPTERS", "Adapter"]

R = TypeVar("R", bound=schemas.OperationRequest)
MOST_COLUMNS = 16


@dataclass(frozen=True, kw_only=True)
class Adapter(Generic[R]):
    """One operation as it stands on the wire. `fields` gives the tensors that a request's parameters ask for; `tensor`
    is the only one of an operation where that does not depend on them. `rows` is the parameter that says how many rows
    an answer has that has not as many as were sent in `tensor`."""

    operation: Operation
    summary: str
    request: type[R]
    answer: type[BaseModel]
    fields: Callable[[Manifest, int, R], Mapping[str, RowSpec]]
    carry_out: Callable[[LoadedModel, Call[R], int], Awaitable[Answer]]
    tensor: Literal["inputs", "latents"] | None = None
    rows: Literal["count", "steps"] | None = None
    binary: bool = True
    picture: bool = True

    def form(self, model: LoadedModel, *, max_rows: int, max_pixels: int) -> Form[R]:
        """What bodies and answers are for this bundle. It outlives the model: nothing of it refers to that."""
        return Form(
            schema=self.request,
            readable=self._readable(model),
            answerable=self._answerable(model),
            width=self._width(model, max_rows),
            fields=partial(self.fields, model.manifest, max_rows),
            spec=model.manifest.input,
            max_pixels=max_pixels,
        )

    def _width(self, model: LoadedModel, max_rows: int) -> Width | None:
        if self.tensor is None:
            return None
        size = model.manifest.input.size if self.tensor == "inputs" else model.manifest.latent.size
        return Width(self.tensor, size, max_rows)

    def numbers(self, model: LoadedModel, call: Call[R]) -> int:
        """At most as many as the answer will hold, but for a few beside each row."""
        rows = len(call.rows[self.tensor]) if self.tensor else getattr(call.parameters, self.rows or "")
        return model.numbers(rows)

    def _readable(self, model: LoadedModel) -> tuple[Media, ...]:
        if not self.binary:
            return (Media.JSON,)
        image = model.manifest.input.image is not None and "inputs" in self.request.model_fields
        return (Media.JSON, Media.NPY, Media.NDJSON, *((Media.PNG, Media.JPEG) if image else ()))

    def _answerable(self, model: LoadedModel) -> tuple[Media, ...]:
        image = model.manifest.input.image is not None and self.picture
        heat = self.operation is not Operation.ANOMALY_SCORE or model.manifest.score.additive
        return (Media.JSON, Media.NPY, *((Media.PNG,) if image and heat else ()))


def _inputs(manifest: Manifest, max_rows: int, _: schemas.OperationRequest) -> Mapping[str, RowSpec]:
    return {"inputs": RowSpec.of_inputs(manifest.input, max_rows, pointer="#/inputs")}


def _latents(manifest: Manifest, max_rows: int, _: schemas.OperationRequest) -> Mapping[str, RowSpec]:
    return {"latents": RowSpec(manifest.latent.size, max_rows, "#/latents")}


def _nothing(_: Manifest, __: int, ___: schemas.OperationRequest) -> Mapping[str, RowSpec]:
    return {}


def _ends(manifest: Manifest, _: int, request: schemas.InterpolateRequest) -> Mapping[str, RowSpec]:
    if request.space == "seeds":
        return {}
    if request.space == "latents":
        return {name: RowSpec(manifest.latent.size, 1, f"#/{name}") for name in ("start", "end")}
    return {name: RowSpec.of_inputs(manifest.input, 1, pointer=f"#/{name}") for name in ("start", "end")}


async def _encode(model: LoadedModel, call: Call[schemas.EncodeRequest], _: int) -> Answer:
    inputs = call.rows["inputs"]
    codes = await operations.encode(model, inputs, log_variances=call.parameters.log_variances)
    fields: dict[str, object] = {"latents": codes.latents}
    if codes.log_variances is not None:
        fields["log_variances"] = codes.log_variances
    return Answer(main="latents", fields=fields, warnings=_warnings(model, inputs, call.extent))


async def _decode(model: LoadedModel, call: Call[schemas.DecodeRequest], _: int) -> Answer:
    outputs = await operations.decode(model, call.rows["latents"])
    return Answer(main="outputs", fields={"outputs": outputs}, picture=_picture(model, outputs))


async def _reconstruct(model: LoadedModel, call: Call[schemas.ReconstructRequest], _: int) -> Answer:
    inputs = call.rows["inputs"]
    found = await operations.reconstruct(model, inputs)
    return Answer(
        main="outputs",
        fields={"outputs": found.outputs, "errors": found.errors},
        picture=_picture(model, found.outputs),
        warnings=_warnings(model, inputs, call.extent),
    )


async def _denoise(model: LoadedModel, call: Call[schemas.DenoiseRequest], _: int) -> Answer:
    inputs = call.rows["inputs"]
    outputs = await operations.denoise(model, inputs)
    return Answer(
        main="outputs",
        fields={"outputs": outputs},
        picture=_picture(model, outputs),
        warnings=_warnings(model, inputs, call.extent),
    )


async def _anomaly_score(model: LoadedModel, call: Call[schemas.AnomalyScoreRequest], _: int) -> Answer:
    inputs, asked = call.rows["inputs"], call.parameters
    found = await operations.anomaly_score(model, inputs, alpha=asked.alpha, threshold=asked.threshold, maps=asked.maps)
    fields = {**found._asdict(), "policy": found.policy._asdict()}
    maps = fields.pop("maps")
    if maps is not None:
        fields["maps"] = maps
    image, ceiling = model.manifest.input.image, model.manifest.score.map_ceiling
    picture = None
    if found.maps is not None and image is not None and ceiling is not None:
        picture = partial(heat_png_from_maps, found.maps, spec=image, ceiling=ceiling)
    warnings = _warnings(model, inputs, call.extent)
    if asked.alpha is None and found.policy.alpha is not None and found.policy.alpha > operations.DEFAULT_ALPHA:
        warnings.append(
            f"{found.calibration_size} calibration scores cannot resolve the default alpha of "
            f"{operations.DEFAULT_ALPHA}: {found.policy.alpha:.3g} was used"
        )
    return Answer(main="scores", fields=fields, picture=picture, warnings=warnings)


async def _sample(model: LoadedModel, call: Call[schemas.SampleRequest], max_rows: int) -> Answer:
    asked = call.parameters
    _check_rows("count", asked.count, max_rows)
    if asked.offset + asked.count - 1 > operations.MAX_SEED:
        raise InvalidContent(
            "offset + count is too large", faults=[Fault(f"rows are numbered up to {operations.MAX_SEED}", "#/offset")]
        )
    found = await operations.sample(
        model, count=asked.count, seed=asked.seed, offset=asked.offset, temperature=asked.temperature
    )
    return Answer(main="outputs", fields=found._asdict(), picture=_picture(model, found.outputs))


async def _interpolate(model: LoadedModel, call: Call[schemas.InterpolateRequest], max_rows: int) -> Answer:
    asked = call.parameters
    _check_rows("steps", asked.steps, max_rows)
    if asked.space == "seeds":
        model.require(Operation.SAMPLE)
        size = model.manifest.latent.size
        start, end = (
            operations.draw_codes(size, seed=_seed(value, f"#/{name}"), offset=0, count=1)
            for name, value in (("start", asked.start), ("end", asked.end))
        )
    else:
        start, end = call.rows["start"], call.rows["end"]
    found = await operations.interpolate(
        model,
        start,
        end,
        steps=asked.steps,
        method=operations.InterpolationMethod(asked.method),
        latents=asked.space != "inputs",
    )
    warnings = _warnings(model, np.concatenate([start, end])) if asked.space == "inputs" else []
    columns = min(asked.steps, MOST_COLUMNS)
    picture = _picture(model, found.outputs, columns=columns)
    return Answer(main="outputs", fields=found._asdict(), picture=picture, warnings=warnings)


ADAPTERS: tuple[Adapter[Any], ...] = (
    Adapter(
        operation=Operation.ENCODE,
        summary="Inputs to codes",
        request=schemas.EncodeRequest,
        answer=schemas.EncodeAnswer,
        tensor="inputs",
        fields=_inputs,
        carry_out=_encode,
        picture=False,
    ),
    Adapter(
        operation=Operation.DECODE,
        summary="Codes to outputs",
        request=schemas.DecodeRequest,
        answer=schemas.DecodeAnswer,
        tensor="latents",
        fields=_latents,
        carry_out=_decode,
    ),
    Adapter(
        operation=Operation.RECONSTRUCT,
        summary="Inputs through the bottleneck and back",
        request=schemas.ReconstructRequest,
        answer=schemas.ReconstructAnswer,
        tensor="inputs",
        fields=_inputs,
        carry_out=_reconstruct,
    ),
    Adapter(
        operation=Operation.DENOISE,
        summary="Inputs without their noise",
        request=schemas.DenoiseRequest,
        answer=schemas.DenoiseAnswer,
        tensor="inputs",
        fields=_inputs,
        carry_out=_denoise,
    ),
    Adapter(
        operation=Operation.ANOMALY_SCORE,
        summary="Scores, p-values and verdicts",
        request=schemas.AnomalyScoreRequest,
        answer=schemas.AnomalyScoreAnswer,
        tensor="inputs",
        fields=_inputs,
        carry_out=_anomaly_score,
    ),
    Adapter(
        operation=Operation.SAMPLE,
        summary="New rows from the prior",
        request=schemas.SampleRequest,
        answer=schemas.SampleAnswer,
        fields=_nothing,
        carry_out=_sample,
        rows="count",
        binary=False,
    ),
    Adapter(
        operation=Operation.INTERPOLATE,
        summary="Rows along a path between two",
        request=schemas.InterpolateRequest,
        answer=schemas.InterpolateAnswer,
        fields=_ends,
        carry_out=_interpolate,
        rows="steps",
        binary=False,
    ),
)


def _picture(model: LoadedModel, rows: Floats, *, columns: int | None = None) -> Callable[[], bytes] | None:
    spec = model.manifest.input
    if spec.image is None or spec.range is None:
        return None
    return partial(png_from_rows, rows, spec=spec.image, value_range=spec.range, columns=columns)


def _warnings(model: LoadedModel, inputs: Floats, extent: Extent | None = None) -> list[str]:
    warning = operations.range_warning(model, inputs, extent=extent)
    return [warning] if warning else []


def _check_rows(field: str, count: int, max_rows: int) -> None:
    if count > max_rows:
        raise TooManyRows(f"{field} is {count}, at most {max_rows} rows are answered at a time")


def _seed(value: object, pointer: str) -> int:
    """One seed, bare or in a list of one."""
    seed = schemas.whole(value[0] if isinstance(value, list) and len(value) == 1 else value)
    if type(seed) is not int or not 0 <= seed <= operations.MAX_SEED:
        fault = Fault(f"an integer from 0 to {operations.MAX_SEED} belongs here", pointer)
        raise InvalidContent("start and end must be seeds", faults=[fault])
    return seed
