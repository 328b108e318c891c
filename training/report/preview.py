"""preview.png: probe rows and what the bundle makes of them, line by line."""

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from bundle.manifest import ImageSpec
from training.report.gallery import Line
from training.report.tiles import tile

__all__ = ["preview"]

TILE = 56  # pixels, about the height of every picture of a row
GAP = 4
MARGIN = 20
LABELS = 120  # the width of the column of labels
HEADING = 44
PAPER, INK, FAINT = (255, 255, 255), (33, 37, 41), (134, 142, 150)


def preview(lines: Sequence[Line], *, image: ImageSpec, title: str, scale: tuple[float, float]) -> bytes:
    """The bytes of preview.png: labelled lines of pictures; `scale` are the values that are black and white."""
    zoom = max(1, round(TILE / image.height))
    width, height = image.width * zoom, image.height * zoom
    columns = max(len(line.rows) for line in lines)
    page = Image.new(
        "RGB",
        (2 * MARGIN + LABELS + columns * (width + GAP) - GAP, 2 * MARGIN + HEADING + len(lines) * (height + GAP) - GAP),
        PAPER,
    )
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=ImageFont.load_default(20))
    for number, line in enumerate(lines):
        y = MARGIN + HEADING + number * (height + GAP)
        if number == 0 or line.label != lines[number - 1].label:
            draw.text((MARGIN, y + height // 2), line.label, fill=FAINT, font=ImageFont.load_default(15), anchor="lm")
        for column, row in enumerate(line.rows):
            picture = tile(row, image=image, scale=scale).resize((width, height), Image.Resampling.NEAREST)
            page.paste(picture, (MARGIN + LABELS + column * (width + GAP), y))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
