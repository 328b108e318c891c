"""Pictures, PNG and JPEG there and PNG back, against pixels that are computed here from the direct forward pass."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from benchmarks.reliability.answers import MAIN, expected_of
from benchmarks.reliability.direct import direct, probe
from benchmarks.reliability.question import JSON, Arrays, Expected, Question
from benchmarks.reliability.questions import read_json
from bundle.calibration import Floats
from bundle.golden import ATOL
from bundle.operations import Method
from bundle.read import Bundle

__all__ = ["BRIGHTEST", "PIXEL_ATOL", "PNG", "picture_questions", "read_picture"]

PNG, FORMATS = "image/png", ("PNG", "JPEG")
BRIGHTEST = 255
# A pixel is the nearest whole number.
PIXEL_ATOL = 0.5 + BRIGHTEST * ATOL


def picture_questions(bundle: Bundle, *, fields: Mapping[str, str] | None = None) -> list[Question]:
    """A picture of either format to every operation that takes inputs: scores and codes come as JSON, pictures as PNG.
    The bundle's inputs are grey pictures of values from 0 to 1."""
    found = []
    for operation, main in MAIN.items():
        method = Method(operation.value)
        if operation not in bundle.manifest.operations or method.takes_latents:
            continue
        for place, image_format in enumerate(FORMATS):
            body, row = _picture(bundle, probe(bundle, method, count=1, first=place), image_format)
            pictured = main == "outputs"
            expected: Expected = (
                {"pixels": BRIGHTEST * direct(bundle, method, row).clip(0, 1)}
                if pictured
                else expected_of(bundle, operation, row)
            )
            found.append(
                Question.post(
                    f"/v1/models/{bundle.manifest.name}/{operation.path}",
                    body,
                    read=read_picture if pictured else read_json,
                    expected={bundle.manifest.version: expected},
                    fields={
                        "Content-Type": f"image/{image_format.lower()}",
                        "Accept": PNG if pictured else JSON,
                        **(fields or {}),
                    },
                    **({"atol": PIXEL_ATOL} if pictured else {}),
                )
            )
    return found


def read_picture(body: bytes, fields: Mapping[str, str]) -> tuple[int, Arrays]:
    """The pixels of a picture as one row."""
    picture = Image.open(io.BytesIO(body), formats=["PNG"])
    return int(fields["diabolo-version"]), {"pixels": np.asarray(picture, dtype=np.float32).reshape(1, -1)}


def _picture(bundle: Bundle, row: Floats, image_format: str) -> tuple[bytes, Floats]:
    """The row as a picture, and the row that this picture is."""
    image = bundle.manifest.input.image
    assert image is not None
    pixels = np.rint(BRIGHTEST * row).astype(np.uint8).reshape(image.height, image.width)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=image_format)
    shown = np.asarray(Image.open(buffer), dtype=np.float32)
    return buffer.getvalue(), shown.reshape(1, -1) / np.float32(BRIGHTEST)
