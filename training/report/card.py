"""CARD.md: what somebody should know before they call the bundle."""

from collections.abc import Sequence

from bundle.manifest import Manifest
from bundle.operations import Family, Operation
from training.advice import Advice
from training.report.words import ANSWERS, MEANINGS, SCORES

__all__ = ["card"]


def card(manifest: Manifest, advice: Sequence[Advice] = ()) -> str:
    """The text of CARD.md: what the bundle is, what it was made from, how good it is, how to call it, its limits."""
    shape = f"rows of {manifest.input.size} float32 values"
    if manifest.input.image is not None:
        image = manifest.input.image
        colours = "grey" if image.channels == 1 else "colour"
        shape += f": {colours} pictures of {image.height} x {image.width} pixels, row by row"
    if manifest.input.range is not None:
        shape += ", values in [{:g}, {:g}]".format(*manifest.input.range)
    if manifest.input.feature_names is not None:
        shape += ", or objects by feature name: " + ", ".join(f"`{name}`" for name in manifest.input.feature_names)
    origin = manifest.provenance
    figures = "\n".join(f"| `{name}` | {value:.5g} | {MEANINGS[name]} |" for name, value in manifest.metrics.items())
    operations = "\n".join(f"- `{operation}`: {ANSWERS[operation]}" for operation in manifest.operations)
    splits = ", ".join(f"{rows:,} {name}" for name, rows in origin.splits.items())
    size = manifest.calibration.size if manifest.calibration else 0
    score = SCORES[manifest.score.kind]
    warnings = "".join(f"\n\n**{each.name.capitalize()}.** {each.found} {each.remedy}" for each in advice)
    return f"""# {manifest.name}, version {manifest.version}

{manifest.description}. Family: {manifest.family.value}.

{_PREVIEW if manifest.input.image else ""}## Input and codes

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

Errors are in squared {_unit(manifest)}, those of an anomaly map too.{warnings}

## Anomaly score and calibration

The score is {score}.
Higher is more anomalous. It was calibrated with the exported program on {size:,} held-out rows: a row like them gets a
p-value of at most alpha with a probability of at most alpha, and no p-value is below 1/{size + 1}.

## Calling it

```sh
{(_CALL if manifest.input.image else _CALL_WITH_ROWS).format(name=manifest.name, verb=_verb(manifest).path)}
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


def _unit(manifest: Manifest) -> str:
    """What rows were judged in."""
    if manifest.input.range is None:
        return "standard deviations of the training rows"
    exponent = manifest.hyper_parameters.get("exponent", 1.0)
    return "input units" if exponent == 1 else f"units of values to the power of {exponent:.3g}"


def _verb(manifest: Manifest) -> Operation:
    return Operation.DENOISE if manifest.family is Family.DENOISING else Operation.RECONSTRUCT


_PREVIEW = """![Probe rows and what the bundle makes of them](preview.png)

"""

_CALL = """server=http://127.0.0.1:8000/v1/models/{name}
curl -s -H 'Accept: image/png' $server/examples/4 -o example.png
curl -s -H 'Content-Type: image/png' -H 'Accept: image/png' --data-binary @example.png $server/{verb} -o {verb}.png
curl -s -H 'Content-Type: image/png' --data-binary @example.png $server/anomaly-score"""

_CALL_WITH_ROWS = """server=http://127.0.0.1:8000/v1/models/{name}
curl -s $server/examples/4 -o example.json
curl -s --data-binary @example.json $server/{verb}
curl -s --data-binary @example.json $server/anomaly-score"""
