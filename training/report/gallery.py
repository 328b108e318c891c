"""What the exported program makes of the probe rows: the lines of the preview and of the report."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Generator

from bundle.calibration import Floats
from bundle.operations import Method
from training.config import Config
from training.export import Artefact
from training.objectives import Denoising

__all__ = ["Line", "farthest", "gallery"]


class Line(NamedTuple):
    """Rows (n, d) that belong side by side, and what they are; lines of one `part` belong below each other."""

    part: str
    label: str
    rows: Floats


def gallery(artefact: Artefact, config: Config, *, rows: Floats) -> list[Line]:
    """Lines of as many rows as the probe `rows` (n, d) are: these and what comes back, a path between the two whose
    codes lie farthest apart, and for a variational bundle two lines of samples."""
    lines = [Line("Reconstructions", "input", rows)]
    if isinstance(config.objective, Denoising):
        clean, bounds = torch.from_numpy(rows), (float(rows.min()), float(rows.max()))
        corrupted = config.objective.corruption(clean, Generator().manual_seed(config.seed), bounds=bounds).numpy()
        lines = [Line("Denoising", "input", rows), Line("Denoising", "corrupted", corrupted)]
        lines += [Line("Denoising", "denoised", artefact.run(Method.DENOISE, corrupted)[0])]
    else:
        lines += [Line("Reconstructions", "reconstruction", artefact.run(Method.RECONSTRUCT, rows)[0])]
    (codes,) = artefact.run(Method.ENCODE, rows)
    start, end = farthest(codes)
    path = np.linspace(0, 1, len(rows), dtype=np.float32)[:, None]
    between = (1 - path) * codes[start] + path * codes[end]
    lines += [Line("Interpolation", "interpolation", artefact.run(Method.DECODE, between)[0])]
    if config.variational:
        draws = torch.randn(2, *codes.shape, generator=Generator().manual_seed(config.seed)).numpy()
        lines += [Line("Samples", "samples", artefact.run(Method.DECODE, draw)[0]) for draw in draws]
    return lines


def farthest(codes: Floats) -> tuple[int, int]:
    """The numbers, the lower first, of the two codes (n, k) with the largest Euclidean distance."""
    distances = np.square(codes[:, None] - codes[None], dtype=np.float64).sum(axis=2)
    start, end = divmod(int(distances.argmax()), len(codes))
    return min(start, end), max(start, end)
