"""Rows as pictures: PNG and JPEG -> one row, rows -> PNG.

Pixels of 8 or 16 bits are mapped linearly onto the declared range of the bundle's inputs, and back.
"""

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from bundle.calibration import Floats
from bundle.manifest import ImageSpec
from service.errors import Fault, InvalidContent, MalformedBody, TooManyPixels

__all__ = ["heat_png_from_maps", "png_from_rows", "row_from_image"]

Range = tuple[float, float]
Bytes = npt.NDArray[np.uint8]

GAP = 2
GAP_SHADE = 96
# Matplotlib's "inferno" at nine equidistant points: dark is normal, bright anomalous.
HEAT = (
    (0, 0, 4), (32, 12, 74), (87, 16, 110), (136, 34, 106), (187, 55, 84),
    (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164),
)  # fmt: skip


def row_from_image(body: bytes, *, image_format: str, spec: ImageSpec, value_range: Range, max_pixels: int) -> Floats:
    """The picture as one row, float32 of shape (1, d), in the declared range.

    `image_format` is Pillow's name, "PNG" or "JPEG". A turned photograph is turned upright, a colour picture for a grey
    bundle becomes its luma. The size is checked before any pixel is decoded. Raises MalformedBody, TooManyPixels, or
    InvalidContent for another size or for transparency.
    """
    try:
        picture = Image.open(io.BytesIO(body), formats=[image_format])
        area = picture.width * picture.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooManyPixels(f"the picture has more than the {max_pixels} pixels that are decoded") from None
    except Exception:  # of hostile bytes Pillow says OSError, SyntaxError, struct.error and more
        raise MalformedBody(f"the body cannot be read as {image_format}") from None
    if area > max_pixels:
        raise TooManyPixels(f"the picture has {area} pixels, at most {max_pixels} are decoded")
    if picture.size not in {(spec.width, spec.height), (spec.height, spec.width)}:
        raise _wrong_size(picture, spec)
    try:
        upright = ImageOps.exif_transpose(picture)
        upright.load()
    except Exception:  # see above
        raise MalformedBody(f"the {image_format} picture is damaged or cut short") from None
    if upright.size != (spec.width, spec.height):
        raise _wrong_size(upright, spec)
    if upright.mode.startswith("I"):  # 16 bits of grey, which Pillow's conversions would clip to 8
        grey = np.asarray(upright, dtype=np.float32)
        _require_opaque(not (grey == upright.info.get("transparency", -1)).any())
        pixels = np.repeat(grey[..., None], spec.channels, axis=-1) / np.float32(65535)
    else:
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            _require_opaque(upright.getextrema()[-1] == (255, 255))
            upright = upright.convert("RGB")
        pixels = np.asarray(upright.convert("L" if spec.channels == 1 else "RGB"), dtype=np.float32) / np.float32(255)
    low, high = value_range
    return np.float32(low) + pixels.reshape(1, spec.size) * np.float32(high - low)


def png_from_rows(rows: Floats, *, spec: ImageSpec, value_range: Range, columns: int | None = None) -> bytes:
    """The rows (n, d) as one PNG: a single row exactly, pixel for pixel, several as a grid with `columns` columns, near
    a square unless given. Values beyond the range are clipped."""
    low, high = value_range
    scaled = (np.clip(rows, low, high) - np.float32(low)) * np.float32(255 / (high - low))
    pixels = np.rint(scaled).astype(np.uint8).reshape(len(rows), spec.height, spec.width, spec.channels)
    return _png(_grid(pixels, columns))


def heat_png_from_maps(maps: Floats, *, spec: ImageSpec, ceiling: float) -> bytes:
    """Anomaly maps (n, d) as one colour PNG, laid out as `png_from_rows` does. Zero is black and `ceiling` the
    brightest, for every picture alike: a normal row stays dark, however its own values are spread."""
    pixels = maps.reshape(len(maps), spec.height, spec.width, spec.channels).mean(axis=-1)
    position = np.clip(pixels / ceiling, 0, 1) * (len(HEAT) - 1)
    anchors = np.arange(len(HEAT))
    channels = [np.interp(position, anchors, shades) for shades in zip(*HEAT, strict=True)]
    return _png(_grid(np.rint(np.stack(channels, axis=-1)).astype(np.uint8), None))


def _grid(pictures: Bytes, columns: int | None) -> Bytes:
    """(n, h, w, c) -> one picture (H, W, c) with gaps between, none around."""
    count, height, width, channels = pictures.shape
    columns = columns or math.ceil(math.sqrt(count))
    lines = math.ceil(count / columns)
    shape = (lines * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels)
    canvas = np.full(shape, GAP_SHADE, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (index // columns) * (height + GAP), (index % columns) * (width + GAP)
        canvas[top : top + height, left : left + width] = picture
    return canvas


def _png(pixels: Bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _require_opaque(opaque: bool) -> None:
    if not opaque:
        raise InvalidContent(
            "the picture must be opaque", faults=[Fault("it has transparent pixels; flatten it first", "#")]
        )


def _wrong_size(picture: Image.Image, spec: ImageSpec) -> InvalidContent:
    return InvalidContent(
        f"the picture must be {spec.width} pixels wide and {spec.height} high",
        faults=[Fault(f"it is {picture.width} wide and {picture.height} high", "#")],
    )
