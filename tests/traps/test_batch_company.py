"""A row's answer must not depend on its company: alone, first or last, in batches of any size.

There is no mode in which it is equal to the last bit: matrix products of other sizes add in another order. It is
bounded, by the tolerance that a bundle's golden probe has."""

from pathlib import Path

import numpy as np
import pytest

from bundle.golden import ATOL, RTOL
from bundle.operations import Method
from bundle.read import read_bundle
from service.engine.runtimes.selection import runtime_opener
from service.machine import RuntimeName

MODELS = Path(__file__).parents[2] / "models"
SIZES = (2, 7, 32, 256)


@pytest.mark.parametrize("runtime", ["torchscript", "onnx"])
@pytest.mark.parametrize("name", ["fashion-conv", "fashion-k-sparse", "fashion-vae"])
def test_a_row_has_one_answer_alone_first_and_last_in_batches_of_any_size(name: str, runtime: RuntimeName) -> None:
    bundle = read_bundle(MODELS / name / "1")
    run = runtime_opener(runtime, device="cpu")(bundle).run
    for method in sorted(bundle.golden.expected):
        probes = bundle.golden.latents if method.takes_latents else bundle.golden.inputs
        row, others = probes[:1], np.resize(probes[1:], (max(SIZES) - 1, probes.shape[1]))
        alone = run(method, row)
        assert all(len(output) == 1 for output in alone)
        for size in SIZES:
            company = others[: size - 1]
            for place, batch in ((0, np.concatenate([row, company])), (size - 1, np.concatenate([company, row]))):
                for output, expected in zip(run(method, batch), alone, strict=True):
                    assert len(output) == size
                    np.testing.assert_allclose(output[place], expected[0], rtol=RTOL, atol=ATOL, err_msg=method)


def test_the_answers_of_neighbours_differ_by_more_than_that() -> None:
    bundle = read_bundle(MODELS / "fashion-vae" / "1")
    (codes,) = runtime_opener("onnx", device="cpu")(bundle).run(Method.ENCODE, bundle.golden.inputs)
    assert np.abs(codes[0] - codes[1]).max() > 100 * (ATOL + RTOL * np.abs(codes[0]).max())
