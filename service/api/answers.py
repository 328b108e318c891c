"""An answer as JSON, as `.npy`, as a picture, or as a line for each row."""

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

import numpy as np
import orjson
from fastapi import Response

from service.api.media import Media
from service.api.rendered import JSON_FIELDS, Rendered
from service.codecs.npy import npy_from_rows
from service.engine.loaded import LoadedModel

__all__ = ["SINGULAR", "Answer", "constant_fields", "field_name", "identity_of", "render", "row_members"]

# Vectors of at most so many values travel as response fields; proxies cut off fields that are longer than 8 kB.
FIELD_VALUES = 64
# What a field that has an element for each row is called on the line of one row.
SINGULAR = {
    "latents": "latent",
    "log_variances": "log_variance",
    "outputs": "output",
    "errors": "error",
    "scores": "score",
    "p_values": "p_value",
    "is_anomaly": "is_anomaly",
    "maps": "map",
}
# The arrays that pictures are made of.
PICTURED = {"outputs", "maps"}


class Answer(NamedTuple):
    """What an operation found: `fields` by name, None where not asked for. `main` names the array that `.npy` holds,
    `picture` makes the PNG, where one can be made."""

    main: str
    fields: Mapping[str, object]
    picture: Callable[[], bytes] | None = None
    warnings: Sequence[str] = ()

    @property
    def size(self) -> int:
        """Numbers in all arrays."""
        return sum(value.size for value in self.fields.values() if isinstance(value, np.ndarray))

    def printed(self, decimals: int | None) -> Mapping[str, object]:
        """The fields as JSON shows them: as they are, or all floats rounded to so many decimals."""
        if decimals is None:
            return self.fields
        return {name: _rounded(value, decimals) for name, value in self.fields.items()}


def render(
    answer: Answer, media: Media, *, model: LoadedModel, request_id: str, decimals: int | None = None
) -> Response:
    """The response: JSON with everything, its numbers rounded to `decimals` if any are named; or the main array or the
    picture, with the rest in `Diabolo-*` fields. What is too long for such a field is named in `Diabolo-Omitted`.
    """
    identity = identity_of(model)
    if media is Media.JSON:
        document = {**identity, "request_id": request_id, **answer.printed(decimals), "warnings": answer.warnings}
        return Rendered(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), JSON_FIELDS)

    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if media is Media.PNG:
        assert answer.picture is not None
        content, shown = answer.picture(), PICTURED
    else:
        content, shown = npy_from_rows(np.asarray(answer.fields[answer.main])), {answer.main}
    rest = {name: value for name, value in answer.fields.items() if name not in shown}
    omitted = [name for name, value in rest.items() if isinstance(value, np.ndarray) and value.size > FIELD_VALUES]
    omitted += [name for name, value in rest.items() if _is_matrix(value) and name not in omitted]
    for name, value in {**identity, **{n: v for n, v in rest.items() if n not in omitted}}.items():
        headers[field_name(name)] = _field_value(value)
    if omitted:
        headers["Diabolo-Omitted"] = ", ".join(omitted)
    if answer.warnings:
        headers["Diabolo-Warnings"] = " / ".join(answer.warnings)
    return Response(content, headers=headers, media_type=media)


def identity_of(model: LoadedModel) -> dict[str, object]:
    """What every answer says about the bundle that gave it."""
    return {"model": model.manifest.name, "version": model.manifest.version, "digest": model.digest}


def row_members(answer: Answer, *, decimals: int | None = None) -> list[bytes]:
    """What the answer says about each row, as members of a JSON object, for example `"output":[0.5,1.0],"error":0.25`:
    the fields of the JSON answer under their names in the singular, the numbers as printed there."""
    columns = {SINGULAR[name]: value for name, value in answer.printed(decimals).items() if name in SINGULAR}
    template = b",".join(
        b'"%b":%b' % (name.encode(), b"[%b]" if _is_matrix(value) else b"%b") for name, value in columns.items()
    )
    texts = (repeat(b"null") if value is None else _texts(value) for value in columns.values())
    return [template % row for row in zip(*texts, strict=False)]


def _texts(values: object) -> list[bytes]:
    """The JSON of each row, without brackets: numbers and booleans hold neither brackets nor commas."""
    text = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    return text[2:-2].split(b"],[") if _is_matrix(values) else text[1:-1].split(b",")


def constant_fields(answer: Answer, *, model: LoadedModel, decimals: int | None = None) -> dict[str, str]:
    """Response fields for what is the same for every row: the bundle, and what it decides by."""
    constant = {name: value for name, value in answer.printed(decimals).items() if name not in SINGULAR}
    return {field_name(name): _field_value(value) for name, value in {**identity_of(model), **constant}.items()}


def _rounded(value: object, decimals: int) -> object:
    """The nearest number of so many decimals, in the type that it had: float32 are then printed with no more of them.
    Other values as they are."""
    if not isinstance(value, np.ndarray | np.floating) or value.dtype.kind != "f":
        return value
    # In float64, where scaling a float32 by 10^8 or less is exact (24 bits and the 19 of 5^8). No zero is negative.
    return (np.round(value.astype(np.float64), decimals) + 0.0).astype(value.dtype)


def _is_matrix(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 2


def field_name(name: str) -> str:
    """What the answer's part is called among the response's fields."""
    return "Diabolo-" + name.replace("_", "-").title()


def _field_value(value: object) -> str:
    """A value as the same text that it has in JSON, lists without brackets."""
    if isinstance(value, str):
        return value
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return text[1:-1].replace(",", ", ") if isinstance(value, np.ndarray) else text
