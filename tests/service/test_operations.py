"""The operations on arrays: what they compute from one forward pass, and what they refuse."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from bundle.calibration import Calibration, Floats
from bundle.golden import Golden
from bundle.manifest import CalibrationSummary, FeatureStatistics, InputSpec, Score
from bundle.operations import Family, Method
from service.engine.loaded import LoadedModel
from service.errors import InvalidContent, NotCalibrated, OperationNotSupported
from service.operations import (
    DEFAULT_ALPHA,
    Policy,
    anomaly_score,
    decode,
    denoise,
    encode,
    range_warning,
    reconstruct,
)
from tests.bundle_factory import CALIBRATION, make_files, make_golden, publish, run
from tests.service.programs import FakeRuntime, Program, rows_of
from tests.service.repositories import repository_of

Publish = Callable[..., Awaitable[LoadedModel]]
# Scores that lie between, on and beyond those of the calibration; on them, because ties decide verdicts.
SCORED = np.array([[0, 0, np.sqrt(2 * score), np.sqrt(2 * score)] for score in (0, 0.01, 0.5, 0.97, 1, 1.5)], "f4")


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
async def published(root: Path, program: Program) -> AsyncIterator[Publish]:
    """Publishes a tiny bundle with these changes to its manifest, and loads it."""
    async with repository_of(root, lambda _: FakeRuntime(program)) as repository:

        async def load(**changes: object) -> LoadedModel:
            publish(root, **changes)  # type: ignore[arg-type]  # fields of Manifest, which checks them
            await repository.refresh()
            assert repository.refused == {}
            program.batches.clear()
            return repository.get("tiny")

        yield load


@pytest.mark.parametrize("count", [1, 2, 4, 5])
async def test_encode_and_decode_are_the_methods_of_their_names(published: Publish, count: int) -> None:
    model, rows = await published(), rows_of(*range(count))
    codes = await encode(model, rows)
    assert codes.log_variances is None
    np.testing.assert_array_equal(codes.latents, run(Method.ENCODE, rows)[0])
    np.testing.assert_array_equal(await decode(model, codes.latents), run(Method.DECODE, codes.latents)[0])


async def test_log_variances_come_with_the_means_of_a_variational_bundle_in_one_pass(
    published: Publish, program: Program
) -> None:
    codes = await encode(await published(family=Family.VARIATIONAL), rows_of(1, 2), log_variances=True)
    np.testing.assert_array_equal(codes.latents, rows_of(1, 2)[:, :2])
    np.testing.assert_array_equal(codes.log_variances, np.zeros((2, 2)))
    assert program.batches == [2]


async def test_log_variances_of_codes_that_have_none_are_refused(published: Publish) -> None:
    with pytest.raises(OperationNotSupported, match="tiny/1 is not variational"):
        await encode(await published(), rows_of(1), log_variances=True)


@pytest.mark.parametrize("count", [1, 2, 4, 5])
async def test_reconstruction_errors_are_mean_squares_of_the_very_outputs(published: Publish, count: int) -> None:
    model, rows = await published(), rows_of(*range(count))
    found = await reconstruct(model, rows)
    np.testing.assert_array_equal(found.outputs, run(Method.RECONSTRUCT, rows)[0])
    np.testing.assert_allclose(found.errors, ((rows - found.outputs) ** 2).mean(axis=1), rtol=1e-6)


async def test_a_reconstruction_takes_one_forward_pass(published: Publish, program: Program) -> None:
    await reconstruct(await published(), rows_of(1, 2))
    assert program.batches == [2]


async def test_an_error_too_large_for_float32_is_refused_although_the_outputs_are_finite(published: Publish) -> None:
    row = np.array([[0, 0, 1e20, 0]], np.float32)
    with pytest.raises(InvalidContent, match="not finite"):
        await reconstruct(await published(), row)


async def test_denoising_is_for_bundles_that_were_trained_to(published: Publish) -> None:
    with pytest.raises(OperationNotSupported, match="cannot denoise"):
        await denoise(await published(), rows_of(1))
    denoiser = await published(version=2, family=Family.DENOISING)
    np.testing.assert_array_equal(await denoise(denoiser, rows_of(1)), run(Method.DENOISE, rows_of(1))[0])


@pytest.mark.parametrize("alpha", [None, 0.05, 0.1, 0.11, 0.5, 0.95, 0.999])
async def test_a_row_is_anomalous_if_and_only_if_p_is_within_alpha_and_its_score_above_the_threshold(
    published: Publish, alpha: float | None
) -> None:
    found = await anomaly_score(await published(), SCORED, alpha=alpha)
    assert found.p_values is not None
    assert found.is_anomaly is not None
    assert found.threshold is not None
    used = found.policy.alpha
    assert used == (alpha or 0.05)
    np.testing.assert_array_equal(found.scores, run(Method.ANOMALY_SCORE, SCORED)[0])
    np.testing.assert_array_equal(found.p_values, CALIBRATION.p_values(found.scores))
    np.testing.assert_array_equal(found.is_anomaly, found.p_values <= used)
    np.testing.assert_array_equal(found.is_anomaly, found.scores > found.threshold)
    assert found.threshold == CALIBRATION.threshold(used)
    assert (found.policy.kind, found.calibration_size) == ("alpha", 19)


async def test_a_threshold_flags_what_is_above_it_and_nothing_at_it(published: Publish) -> None:
    found = await anomaly_score(await published(), rows_of(0, 1, 2), threshold=2.0)
    np.testing.assert_array_equal(found.scores, [0, 2, 8])
    np.testing.assert_array_equal(found.is_anomaly, [False, False, True])
    assert found.policy == Policy("threshold", None)
    assert found.threshold == 2
    np.testing.assert_array_equal(found.p_values, CALIBRATION.p_values(found.scores))


@pytest.mark.parametrize(("size", "used"), [(19, 1 / 20), (98, 1 / 99), (99, DEFAULT_ALPHA), (1999, DEFAULT_ALPHA)])
async def test_the_default_alpha_yields_to_a_calibration_set_too_small_for_it(
    published: Publish, size: int, used: float
) -> None:
    calibration = Calibration.fit(np.linspace(0, 1, size, dtype=np.float32))
    model = await published(
        files=make_files() | {"calibration.npy": calibration.to_bytes()},
        calibration=CalibrationSummary(size=size, minimum=0, median=0.5, maximum=1),
    )
    found = await anomaly_score(model, rows_of(9))
    assert (found.policy, found.calibration_size) == (Policy("alpha", used), size)
    assert found.is_anomaly is not None
    assert found.is_anomaly.all(), "the most anomalous row of all is flagged"


@pytest.mark.parametrize("alpha", [0.05 - 1e-9, 0.0, -0.5, 1.0, 1.5])
async def test_an_alpha_that_the_calibration_cannot_resolve_is_refused_with_the_reason(
    published: Publish, alpha: float, program: Program
) -> None:
    model = await published()
    with pytest.raises(InvalidContent, match=r"^alpha must lie in \[1/20, 1\)$") as refusal:
        await anomaly_score(model, rows_of(1), alpha=alpha)
    (fault,) = refusal.value.faults
    assert fault.pointer == "#/alpha"
    assert "with 19 calibration scores no p-value is below 1/20 = 0.05" in fault.detail
    assert program.batches == [], "nothing was computed"


UNCALIBRATED = {
    "calibration": None,
    "files": {name: content for name, content in make_files().items() if name != "calibration.npy"},
}


async def test_an_uncalibrated_bundle_gives_raw_scores_and_no_verdicts(published: Publish) -> None:
    found = await anomaly_score(await published(**UNCALIBRATED), rows_of(0, 1))
    np.testing.assert_array_equal(found.scores, [0, 2])
    assert found[1:] == (None, None, None, Policy("none", None), 0, None)


async def test_an_uncalibrated_bundle_has_no_alpha_and_takes_a_threshold(published: Publish) -> None:
    model = await published(**UNCALIBRATED)
    with pytest.raises(NotCalibrated, match="tiny/1 is not calibrated"):
        await anomaly_score(model, rows_of(0, 1), alpha=0.1)
    found = await anomaly_score(model, rows_of(0, 1), threshold=1)
    np.testing.assert_array_equal(found.is_anomaly, [False, True])
    assert found.p_values is None


@pytest.mark.parametrize("count", [1, 2, 4, 5])
async def test_the_mean_of_a_map_is_its_score(published: Publish, count: int) -> None:
    rows = np.random.default_rng(0).random((count, 4), dtype=np.float32)
    found = await anomaly_score(await published(), rows, maps=True)
    assert found.maps is not None
    assert found.maps.shape == rows.shape
    np.testing.assert_allclose(found.maps.mean(axis=1), found.scores, rtol=1e-6)


async def test_a_score_that_is_no_sum_has_no_maps(published: Publish) -> None:
    golden = make_golden()
    expected = dict(golden.expected)
    del expected[Method.ANOMALY_MAP]
    without_map = Golden(golden.inputs, golden.latents, expected)
    model = await published(
        score=Score(kind="negative_elbo", additive=False),
        files=make_files() | {"golden.npz": without_map.to_bytes()},
    )
    with pytest.raises(OperationNotSupported, match="scores by negative_elbo, which is not a sum over elements"):
        await anomaly_score(model, rows_of(1), maps=True)
    assert (await anomaly_score(model, rows_of(1))).maps is None


PIXELS = "these look like pixels of 0 to 255: divide them by 255, or send the picture itself as image/png"
SIGNED = "these look like pixels scaled to [-1, 1]: this bundle takes [0, 1]"
UNITS = "the values are in other units than the training data's"


@pytest.mark.parametrize(
    ("lowest", "highest", "cause"),
    [
        (0, 1, None),
        (0.2, 0.8, None),
        (-0.0009, 1.0009, None),
        (0, 255, PIXELS),
        (3, 200, PIXELS),
        (-1, 1, SIGNED),
        (-0.5, 0.9, SIGNED),
        (0, 1.2, UNITS),
        (0, 256, UNITS),
        (-3, 3, UNITS),
        (-1e30, 1e30, UNITS),
    ],
)
async def test_values_outside_the_declared_range_are_explained(
    published: Publish, lowest: float, highest: float, cause: str | None
) -> None:
    rows = np.array([[lowest] * 4, [highest] * 4], np.float32)
    warning = range_warning(await published(), rows)
    if cause is None:
        assert warning is None
    else:
        assert warning is not None
        assert warning.startswith(f"inputs reach from {lowest:.4g} to {highest:.4g}, the training data from 0 to 1; ")
        assert warning.endswith(cause)


@pytest.mark.parametrize(("value", "warned"), [(-5, False), (20, False), (20.1, True), (-6, True)])
async def test_without_a_declared_range_the_training_values_are_the_measure(
    published: Publish, value: float, warned: bool
) -> None:
    model = await published(
        input=InputSpec(size=4),
        statistics=FeatureStatistics(
            mean=(0,) * 4, standard_deviation=(1,) * 4, minimum=(-5, 0, 0, 0), maximum=(1, 20, 1, 1)
        ),
    )
    rows: Floats = np.array([[value, 0, 0, 0]], np.float32)
    warning = range_warning(model, rows)
    assert (warning is not None) == warned
    assert warning is None or warning.endswith("other units than the training data, or truly unlike it")
