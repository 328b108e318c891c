"""Rows that are drawn, and rows along a path between two: the codes are computed here by the formulas of the
documentation, the outputs are the direct forward pass of those."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson

from benchmarks.reliability.direct import direct, probe
from benchmarks.reliability.pictures import BRIGHTEST, PIXEL_ATOL, PNG, read_picture
from benchmarks.reliability.question import JSON, Question
from benchmarks.reliability.questions import read_json
from bundle.calibration import Floats
from bundle.operations import Method, Operation
from bundle.read import Bundle

__all__ = ["path_questions"]

STEPS, SEED, LATER_SEED = 5, 7, 2**53 - 9


def path_questions(bundle: Bundle, *, fields: Mapping[str, str] | None = None) -> list[Question]:
    """Samples, of a bundle that has them, and interpolations: between inputs, codes and seeds, straight and along an
    arc; the codes of the answer and its outputs are checked. A sample as a picture too."""
    codes = probe(bundle, Method.DECODE, count=2)
    first, last = probe(bundle, Method.ENCODE, count=2)
    asked: list[tuple[Operation, Mapping[str, Any], Floats]] = [
        (
            Operation.INTERPOLATE,
            {"space": "latents", "start": codes[:1], "end": codes[1:], "steps": STEPS, "method": "slerp"},
            _arc(*codes),
        ),
        (
            Operation.INTERPOLATE,
            {"space": "inputs", "start": first, "end": last, "steps": STEPS},
            _line(*direct(bundle, Method.ENCODE, np.stack([first, last]))),
        ),
    ]
    if Operation.SAMPLE in bundle.manifest.operations:
        drawn = {seed: _drawn(bundle, seed=seed, offset=0, count=1)[0] for seed in (SEED, LATER_SEED)}
        asked += [
            (Operation.SAMPLE, {"count": 4, "seed": SEED}, _drawn(bundle, seed=SEED, offset=0, count=4)),
            (
                Operation.SAMPLE,
                {"count": 3, "seed": LATER_SEED, "offset": 2, "temperature": 0.5},
                _drawn(bundle, seed=LATER_SEED, offset=2, count=3) * np.float32(0.5),
            ),
            (
                Operation.INTERPOLATE,
                {"space": "seeds", "start": SEED, "end": LATER_SEED, "steps": STEPS},
                _line(drawn[SEED], drawn[LATER_SEED]),
            ),
            (Operation.SAMPLE, {"count": 1, "seed": SEED}, drawn[SEED][None]),
        ]
    return list(_posted(bundle, asked, fields or {}))


def _posted(
    bundle: Bundle, asked: list[tuple[Operation, Mapping[str, Any], Floats]], fields: Mapping[str, str]
) -> Iterator[Question]:
    for operation, document, latents in asked:
        outputs, pictured = direct(bundle, Method.DECODE, latents), document.get("count") == 1
        yield Question.post(
            f"/v1/models/{bundle.manifest.name}/{operation.path}",
            orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY),
            read=read_picture if pictured else read_json,
            expected={
                bundle.manifest.version: {"pixels": BRIGHTEST * outputs.clip(0, 1)}
                if pictured
                else {"latents": latents, "outputs": outputs}
            },
            fields={"Content-Type": JSON, "Accept": PNG if pictured else JSON, **fields},
            **({"atol": PIXEL_ATOL} if pictured else {}),
        )


def _drawn(bundle: Bundle, *, seed: int, offset: int, count: int) -> Floats:
    """Row i is the first of Philox keyed by (seed, offset + i)."""
    size = bundle.manifest.latent.size
    generators = [np.random.Generator(np.random.Philox(key=[seed, offset + row])) for row in range(count)]
    return np.stack([generator.standard_normal(size, dtype=np.float32) for generator in generators])


def _line(start: Floats, end: Floats) -> Floats:
    t = np.linspace(0, 1, STEPS)[:, None]
    return ((1 - t) * start + t * end).astype(np.float32)


def _arc(start: Floats, end: Floats) -> Floats:
    """Along the great circle (Shoemake 1985), the codes not being parallel."""
    angle = np.arccos(start @ end / np.linalg.norm(start) / np.linalg.norm(end))
    t = np.linspace(0, 1, STEPS)[:, None]
    arc: Floats = (np.sin((1 - t) * angle) * start + np.sin(t * angle) * end) / np.sin(angle)
    return arc.astype(np.float32)
