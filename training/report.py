"""What a person looks at: the preview picture and the model card."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Generator

from bundle.calibration import Floats
from bundle.manifest import ImageSpec, Manifest
from bundle.operations import Family, Method, Operation
from training.config import Config
from training.evaluate import ALPHA, IMPORTANCE_DRAWS
from training.export import Artefact
from training.objectives import Denoising

__all__ = ["card", "preview"]

TILE = 56  # pixels, about the height of every picture of a row
GAP = 4
MARGIN = 20
LABELS = 120  # the width of the column of labels
HEADING = 44
PAPER, INK, FAINT = (255, 255, 255), (33, 37, 41), (134, 142, 150)


def preview(artefact: Artefact, config: Config, *, rows: Floats, image: ImageSpec, title: str) -> bytes:
    """The bytes of preview.png: the probe rows (n, d) and what the exported program makes of them, line by line."""
    low, high = float(rows.min()), float(rows.max())
    lines = [("input", rows)]
    if isinstance(config.objective, Denoising):
        clean = torch.from_numpy(rows)
        corrupted = config.objective.corruption(clean, Generator().manual_seed(config.seed), bounds=(low, high)).numpy()
        lines += [("corrupted", corrupted), ("denoised", artefact.run(Method.DENOISE, corrupted)[0])]
    else:
        lines += [("reconstruction", artefact.run(Method.RECONSTRUCT, rows)[0])]
    (codes,) = artefact.run(Method.ENCODE, rows)
    path = np.linspace(0, 1, len(rows), dtype=np.float32)[:, None]
    lines += [("interpolation", artefact.run(Method.DECODE, (1 - path) * codes[0] + path * codes[-1])[0])]
    if config.variational:
        draws = torch.randn(2, *codes.shape, generator=Generator().manual_seed(config.seed)).numpy()
        lines += [("samples", artefact.run(Method.DECODE, codes)[0]) for codes in draws]
    return _drawn(lines, image=image, title=title, scale=(low, high))


def card(manifest: Manifest) -> str:
    """The text of CARD.md: what the bundle is, what it was made from, how good it is, how to call it, its limits."""
    shape = f"rows of {manifest.input.size} float32 values"
    if manifest.input.image is not None:
        image = manifest.input.image
        colours = "grey" if image.channels == 1 else "colour"
        shape += f": {colours} pictures of {image.height} x {image.width} pixels, row by row"
    if manifest.input.range is not None:
        shape += ", values in [{:g}, {:g}]".format(*manifest.input.range)
    origin = manifest.provenance
    figures = "\n".join(f"| `{name}` | {value:.5g} | {_meaning(name)} |" for name, value in manifest.metrics.items())
    operations = "\n".join(f"- `{operation}`: {_ANSWERS[operation]}" for operation in manifest.operations)
    splits = ", ".join(f"{rows:,} {name}" for name, rows in origin.splits.items())
    size = manifest.calibration.size if manifest.calibration else 0
    score = _SCORES[manifest.score.kind]
    return f"""# {manifest.name}, version {manifest.version}

{manifest.description}. Family: {manifest.family.value}.

![Probe rows and what the bundle makes of them](preview.png)

## Input and codes

It takes {shape}. A code has {manifest.latent.size} values. Scaling happens inside the program: send values as they are.

## Operations

{operations}

## Data

{origin.data_source}: {splits} rows.
The test rows served for the figures below and the probe only, never for fitting, early stopping or calibration.
SHA-256 of the data: `{origin.data_digest}`.

## Quality on the test split

| figure | value | meaning |
| --- | ---: | --- |
{figures}

## Anomaly score and calibration

The score is {score}.
Higher is more anomalous. It was calibrated with the exported program on {size:,} held-out rows: a row like them gets a
p-value of at most alpha with a probability of at most alpha, and no p-value is below 1/{size + 1}.

## Calling it

```sh
{_CALL.format(name=manifest.name, verb=_verb(manifest).path)}
```

## Limits

- It knows {origin.data_source} only. Other rows are answered too, with whatever the decoder can draw that comes
  closest; the p-value is what tells them apart.
- The p-values assume that normal rows come from where the calibration rows came from. When that drifts, calibrate anew.
- A score judges a row as a whole. It names no cause, and it is no evidence about people.

## Provenance

`{origin.command}`, seed {origin.seed}, {origin.created_at},
commit {origin.source_commit or "unknown (no clean checkout)"}.
{", ".join(f"{package} {version}" for package, version in origin.packages.items())}.
"""


def _drawn(lines: Sequence[tuple[str, Floats]], *, image: ImageSpec, title: str, scale: tuple[float, float]) -> bytes:
    """A PNG of labelled lines of pictures; `scale` are the values that are black and white."""
    zoom = max(1, round(TILE / image.height))
    width, height = image.width * zoom, image.height * zoom
    columns = len(lines[0][1])
    page = Image.new(
        "RGB",
        (
            2 * MARGIN + LABELS + columns * (width + GAP) - GAP,
            2 * MARGIN + HEADING + len(lines) * (height + GAP) - GAP,
        ),
        PAPER,
    )
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=ImageFont.load_default(20))
    for line, (label, rows) in enumerate(lines):
        y = MARGIN + HEADING + line * (height + GAP)
        if line == 0 or label != lines[line - 1][0]:
            draw.text((MARGIN, y + height // 2), label, fill=FAINT, font=ImageFont.load_default(15), anchor="lm")
        for column, pixels in enumerate(_as_bytes(rows, scale)):
            shape = (image.height, image.width) if image.channels == 1 else (image.height, image.width, 3)
            tile = Image.fromarray(pixels.reshape(shape)).resize((width, height), Image.Resampling.NEAREST)
            page.paste(tile, (MARGIN + LABELS + column * (width + GAP), y))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _as_bytes(rows: Floats, scale: tuple[float, float]) -> npt.NDArray[np.uint8]:
    low, high = scale
    grey: npt.NDArray[np.uint8] = np.clip((rows - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    return grey


def _verb(manifest: Manifest) -> Operation:
    return Operation.DENOISE if manifest.family is Family.DENOISING else Operation.RECONSTRUCT


_CALL = """server=http://127.0.0.1:8000/v1/models/{name}
curl -s -H 'Accept: image/png' $server/examples/4 -o example.png
curl -s -H 'Content-Type: image/png' -H 'Accept: image/png' --data-binary @example.png $server/{verb} -o {verb}.png
curl -s -H 'Content-Type: image/png' --data-binary @example.png $server/anomaly-score"""

_ANSWERS = {
    Operation.ENCODE: "the code of a row (the mean code where codes are distributions)",
    Operation.DECODE: "the row that a code stands for",
    Operation.RECONSTRUCT: "a row after encoding and decoding",
    Operation.DENOISE: "the clean row that a corrupted one came from",
    Operation.ANOMALY_SCORE: "how unlike the training data a row is, with its p-value",
    Operation.SAMPLE: "new rows, decoded from codes drawn from the prior N(0, I)",
    Operation.INTERPOLATE: "rows on the way from one row or code to another",
}

_SCORES = {
    "reconstruction_error": "the mean squared error of the reconstruction, in squared input units; `anomaly_map` says "
    "how much each element adds",
    "negative_elbo": "the negative evidence lower bound with the code at its mean, in nats",
}

_MEANINGS = {
    "reconstruct_mse": "mean squared error of the reconstruction",
    "principal_components_mse": "for comparison: the same, by as many principal components as a code has values",
    "denoise_mse": "mean squared error of the denoised row against the clean one",
    "corrupted_mse": "for comparison: that of the corrupted row itself",
    "negative_elbo": "negative evidence lower bound, one draw for each row, in nats",
    "divergence": "the part of it that is the codes' divergence from the prior, in nats",
    "importance_weighted_bound": f"the same with {IMPORTANCE_DRAWS} weighted draws for each row, which lies closer to "
    "the negative log likelihood",
    "cross_entropy": "cross-entropy of the grey values with the reconstruction, in nats per row",
    "cross_entropy_floor": "for comparison: the least that it can be, the grey values' own entropy",
    f"test_rate_at_{ALPHA}": f"the fraction of test rows whose p-value is at most {ALPHA}",
    f"noise_rate_at_{ALPHA}": f"the fraction of rows of uniform noise whose p-value is at most {ALPHA}",
}


def _meaning(figure: str) -> str:
    return _MEANINGS[figure]
