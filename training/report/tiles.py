"""A row as a small picture."""

import base64
import io

import numpy as np
from PIL import Image

from bundle.calibration import Floats
from bundle.manifest import ImageSpec

__all__ = ["data_url", "tile"]

LARGEST = 64  # pixels; a page of larger ones would be heavy, and nobody sees more in a tile


def tile(row: Floats, *, image: ImageSpec, scale: tuple[float, float]) -> Image.Image:
    """The picture of `row` (d,); `scale` are the values that are black and white, beyond which it is clipped."""
    low, high = scale
    pixels = np.clip((row - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    shape = (image.height, image.width) if image.channels == 1 else (image.height, image.width, 3)
    return Image.fromarray(pixels.reshape(shape))


def data_url(picture: Image.Image) -> str:
    """The picture, at most 64 pixels wide and high, as a URL that needs no other file."""
    if max(picture.size) > LARGEST:
        picture = picture.copy()
        picture.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
