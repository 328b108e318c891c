"""A body -> validated parameters and rows. Where something is wrong, the refusal points at it."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Generic, NamedTuple, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from bundle.calibration import Floats
from bundle.manifest import InputSpec
from service.api.media import Media
from service.api.schemas import OperationRequest
from service.codecs.flat_json import Extent, flat_rows
from service.codecs.images import row_from_image
from service.codecs.lists import rows_from_json
from service.codecs.npy import rows_from_npy
from service.codecs.pointers import escape
from service.codecs.rows import RowSpec
from service.errors import Fault, InvalidContent, MalformedBody

__all__ = ["IMAGE_FORMATS", "Body", "Call", "Form", "Width", "load_json", "parameters_from", "parse", "validate"]

R = TypeVar("R", bound=OperationRequest)
M = TypeVar("M", bound=BaseModel)
MOST_FAULTS = 10
MOST_MEMBERS = 64
MOST_ERRORS = 1000
IMAGE_FORMATS = {Media.PNG: "PNG", Media.JPEG: "JPEG"}


class Body(NamedTuple):
    """A body as it came, and the query, which carries the parameters where the body is no JSON."""

    content: bytes
    media: Media
    query: Sequence[tuple[str, str]]


class Call(NamedTuple, Generic[R]):
    """A request that can be carried out: its parameters and its tensors by field name, float32 rows. `extent` is the
    least and the greatest of all values, where that is known already."""

    parameters: R
    rows: Mapping[str, Floats]
    extent: Extent | None = None


class Width(NamedTuple):
    """What is known of a request's only tensor before its parameters are: its field, and what its rows must be."""

    field: str
    size: int
    max_rows: int


class Form(NamedTuple, Generic[R]):
    """What the body of an operation on a bundle must be. `fields` says which tensors the parameters ask for; `width`
    the same of the only one, where they do not matter. `readable` are the media types that it may have, and
    `answerable` those of the answer, the preferred one first."""

    schema: type[R]
    readable: Sequence[Media]
    answerable: Sequence[Media]
    width: Width | None
    fields: Callable[[R], Mapping[str, RowSpec]]
    spec: InputSpec
    max_pixels: int


def parse(body: Body, form: Form[R]) -> Call[R]:
    """The call that a body makes.

    Raises MalformedBody, InvalidContent, TooManyRows, TooManyPixels.
    """
    schema, spec = form.schema, form.spec
    if body.media is Media.JSON:
        if body.query:
            raise InvalidContent(
                "a JSON body carries all parameters itself",
                faults=[Fault("move this parameter from the query into the body", f"#/{escape(body.query[0][0])}")],
            )
        width = form.width
        if width is not None and (
            found := flat_rows(body.content, width.field, size=width.size, max_rows=width.max_rows)
        ):
            return Call(_parameters(schema, found.others), {width.field: found.rows}, found.extent)
        parameters = validate(schema, load_json(body.content), strict=True)
        tensors = form.fields(parameters)
        return Call(parameters, {name: rows_from_json(getattr(parameters, name), tensors[name]) for name in tensors})

    parameters = parameters_from(body.query, schema)
    ((name, row_spec),) = form.fields(parameters).items()
    if body.media is Media.NPY:
        return Call(parameters, {name: rows_from_npy(body.content, row_spec)})
    assert spec.image is not None
    assert spec.range is not None
    row = row_from_image(
        body.content,
        image_format=IMAGE_FORMATS[body.media],
        spec=spec.image,
        value_range=spec.range,
        max_pixels=form.max_pixels,
    )
    return Call(parameters, {name: row})


def _parameters(schema: type[R], others: Mapping[str, object]) -> R:
    """The parameters beside a tensor that has been read already."""
    if not others:
        return _no_parameters(schema)  # type: ignore[return-value]  # of that type
    return validate(schema, {next(iter(schema.model_fields)): None, **others}, strict=True)


@cache
def _no_parameters(schema: type[OperationRequest]) -> OperationRequest:
    return schema.model_validate({next(iter(schema.model_fields)): None})


def parameters_from(query: Sequence[tuple[str, str]], schema: type[R]) -> R:
    """The parameters beside a body that is no JSON object and holds the tensor. Raises InvalidContent."""
    named = dict(query)
    tensor = next(iter(schema.model_fields))
    if tensor in named or len(named) < len(query):
        raise InvalidContent("the query must name each parameter once, and no tensor", faults=[Fault("found", "#")])
    return validate(schema, {**named, tensor: None}, strict=False)


def load_json(content: bytes) -> dict[str, object]:
    """The JSON object that a body is. Raises MalformedBody, or InvalidContent for JSON of another kind."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        hint = "; JSON has no NaN and no Infinity" if b"NaN" in content or b"Infinity" in content else ""
        cause = error.msg if content else "it is empty"
        raise MalformedBody(f"the body is not JSON: {cause}: line {error.lineno} column {error.colno}{hint}") from None
    if not isinstance(value, dict):
        raise InvalidContent(
            "the body must be a JSON object", faults=[Fault("an object with the request's fields belongs here", "#")]
        )
    return value


def validate(schema: type[M], values: Mapping[str, object], *, strict: bool) -> M:
    """The request that these fields make. Raises InvalidContent with a pointer to each wrong one, up to ten."""
    if len(values) > MOST_MEMBERS:  # each would be an error, and millions of those take many seconds
        raise InvalidContent(
            f"the request has {len(values)} fields, more than any has",
            faults=[Fault(f"the fields are {', '.join(schema.model_fields)}", "#")],
        )
    try:
        return schema.model_validate(values, strict=strict)
    except ValidationError as error:
        known = ", ".join(schema.model_fields)
        if error.error_count() > MOST_ERRORS:
            raise InvalidContent(f"the request is wrong in {error.error_count()} places") from None
        faults = [
            Fault(
                f"unknown field; the fields are {known}"
                if fault["type"] == "extra_forbidden"
                else _sentence(fault["msg"]),
                "#" + "".join(f"/{escape(str(part))}" for part in fault["loc"]),
            )
            for fault in error.errors(include_input=False, include_url=False)[:MOST_FAULTS]
        ]
        raise InvalidContent("the request's fields are not valid", faults=faults) from None


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ")
