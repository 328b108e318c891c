"""Sampling and interpolation: rows that depend on their seed and number alone, and paths with both their ends."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bundle.calibration import Floats
from bundle.operations import Family, Method
from service.engine.loaded import LoadedModel
from service.errors import InvalidContent, OperationNotSupported
from service.operations import (
    MAX_SEED,
    InterpolationMethod,
    draw_codes,
    interpolate,
    path_between,
    sample,
)
from tests.bundle_factory import LATENT_SIZE, publish, run
from tests.service.programs import FakeRuntime, Program, rows_of
from tests.service.repositories import repository_of

LINEAR, SLERP = InterpolationMethod.LINEAR, InterpolationMethod.SLERP


@pytest.fixture
async def model(root: Path) -> AsyncIterator[LoadedModel]:
    publish(root, family=Family.VARIATIONAL)
    async with repository_of(root, lambda _: FakeRuntime(Program())) as repository:
        yield repository.get("tiny")


def philox(size: int, *, seed: int, row: int) -> Floats:
    """The definition: a generator of its own for each row."""
    return np.random.Generator(np.random.Philox(key=[seed, row])).standard_normal(size, dtype=np.float32)


@given(
    size=st.integers(1, 40),
    seed=st.integers(0, MAX_SEED),
    offset=st.integers(0, MAX_SEED - 20),
    count=st.integers(1, 20),
)
def test_row_i_of_a_seed_is_philox_keyed_by_seed_and_i_whatever_the_count(
    size: int, seed: int, offset: int, count: int
) -> None:
    codes = draw_codes(size, seed=seed, offset=offset, count=count)
    assert codes.shape == (count, size)
    assert codes.dtype == np.float32
    for index, code in enumerate(codes):
        assert code.tobytes() == philox(size, seed=seed, row=offset + index).tobytes()


def test_codes_are_standard_normal_and_rows_are_not_alike() -> None:
    codes = draw_codes(8, seed=7, offset=0, count=4096)
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(np.cov(codes.T), np.eye(8), atol=0.07)
    assert len(np.unique(codes[:, 0])) > 4090
    assert abs(np.corrcoef(codes[:-1, 0], codes[1:, 0])[0, 1]) < 0.05, "neighbours are independent"


async def test_a_sample_of_many_holds_the_samples_of_one(model: LoadedModel) -> None:
    many = await sample(model, count=8, seed=7)
    assert many.latents.tobytes() == draw_codes(LATENT_SIZE, seed=7, offset=0, count=8).tobytes()
    for index in range(8):
        one = await sample(model, count=1, seed=7, offset=index)
        assert one.latents.tobytes() == many.latents[index].tobytes()
        assert one.outputs.tobytes() == many.outputs[index].tobytes()
    np.testing.assert_array_equal(many.outputs, np.hstack([many.latents, many.latents]))


async def test_without_a_seed_one_is_drawn_and_named_so_that_the_rows_can_be_had_again(model: LoadedModel) -> None:
    first, second = await sample(model, count=2), await sample(model, count=2)
    assert first.seed != second.seed
    assert 0 <= first.seed <= MAX_SEED
    again = await sample(model, count=2, seed=first.seed)
    assert again.outputs.tobytes() == first.outputs.tobytes()


async def test_sampling_leaves_the_global_generators_as_they_were(model: LoadedModel) -> None:
    before = repr(np.random.get_state()), random.getstate()
    await sample(model, count=100, seed=7)
    await sample(model, count=100)
    assert (repr(np.random.get_state()), random.getstate()) == before


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
async def test_temperature_scales_the_noise(model: LoadedModel, temperature: float) -> None:
    found = await sample(model, count=3, seed=7, temperature=temperature)
    np.testing.assert_array_equal(
        found.latents, draw_codes(LATENT_SIZE, seed=7, offset=0, count=3) * np.float32(temperature)
    )


CODES = st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3).map(lambda code: np.array(code, np.float32))
STEPS = st.integers(2, 30)


@given(start=CODES, end=CODES, steps=STEPS, method=st.sampled_from(InterpolationMethod))
def test_a_path_has_its_ends_exactly_and_as_many_steps_as_asked(
    start: Floats, end: Floats, steps: int, method: InterpolationMethod
) -> None:
    path = path_between(start, end, steps=steps, method=method)
    assert path.shape == (steps, 3)
    assert path.dtype == np.float32
    assert (path[0].tobytes(), path[-1].tobytes()) == (start.tobytes(), end.tobytes())
    assert np.isfinite(path).all()


@given(start=CODES, end=CODES, steps=STEPS)
def test_a_linear_path_is_even(start: Floats, end: Floats, steps: int) -> None:
    path = path_between(start, end, steps=steps, method=LINEAR)
    share = np.linspace(0, 1, steps)[:, None]
    np.testing.assert_allclose(path, start + share * (end.astype(np.float64) - start), rtol=1e-5, atol=1e-3)


@given(start=CODES, end=CODES, steps=STEPS)
def test_slerp_between_codes_of_one_norm_keeps_the_norm_and_turns_evenly(
    start: Floats, end: Floats, steps: int
) -> None:
    norms = np.linalg.norm(start), np.linalg.norm(end)
    assume(min(norms) > 1e-2)
    start, end = (start / norms[0]).astype(np.float32), (end / norms[1]).astype(np.float32)
    angle = np.arccos(np.clip(start.astype(np.float64) @ end, -1, 1))
    assume(0.01 < angle < np.pi - 0.01)
    path = path_between(start, end, steps=steps, method=SLERP).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 1, atol=1e-4)
    turns = np.arccos(np.clip((path[:-1] * path[1:]).sum(axis=1), -1, 1))
    np.testing.assert_allclose(turns, angle / (steps - 1), atol=2e-3)


def test_slerp_goes_along_the_arc() -> None:
    east, north = np.array([2, 0], np.float32), np.array([0, 2], np.float32)
    arc = np.array([[2, 0], [np.sqrt(2), np.sqrt(2)], [0, 2]])
    np.testing.assert_allclose(path_between(east, north, steps=3, method=SLERP), arc, rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "end"),
    [((0, 0), (1, 2)), ((1, 2), (0, 0)), ((0, 0), (0, 0)), ((1, 2), (2, 4)), ((1, 2), (1, 2)), ((1, 2), (-2, -4))],
    ids=["from zero", "to zero", "zero", "parallel", "equal", "opposite"],
)
def test_slerp_without_an_arc_is_linear(start: tuple[float, float], end: tuple[float, float]) -> None:
    ends = np.array(start, np.float32), np.array(end, np.float32)
    np.testing.assert_array_equal(
        path_between(*ends, steps=5, method=SLERP), path_between(*ends, steps=5, method=LINEAR)
    )


async def test_interpolating_between_inputs_goes_from_code_to_code(model: LoadedModel) -> None:
    found = await interpolate(model, rows_of(0), rows_of(1), steps=3, method=LINEAR, latents=False)
    np.testing.assert_array_equal(found.latents, [[0, 0], [0.5, 1], [1, 2]])
    np.testing.assert_array_equal(found.outputs, np.hstack([found.latents, found.latents]))


async def test_interpolating_between_codes_decodes_them_as_they_are(model: LoadedModel) -> None:
    start, end = np.array([[0, 1]], np.float32), np.array([[1, 0]], np.float32)
    found = await interpolate(model, start, end, steps=2, method=SLERP, latents=True)
    np.testing.assert_array_equal(found.latents, [[0, 1], [1, 0]])
    np.testing.assert_array_equal(found.outputs, [[0, 1, 0, 1], [1, 0, 1, 0]])


async def test_a_path_that_leaves_float32_is_refused_even_where_the_decoder_would_squash_it(root: Path) -> None:
    """Nearly opposite codes of unlike norms swing far out: the weights of slerp are 1 / sin of the angle."""

    def squashing(method: Method, rows: Floats) -> tuple[Floats, ...]:
        return tuple(np.clip(output, -9, 9) for output in run(method, rows))

    publish(root)
    start, end = np.array([[1e38, 0]], np.float32), np.array([[-1e35, 1e30]], np.float32)
    async with repository_of(root, lambda _: FakeRuntime(squashing)) as repository:
        with pytest.raises(InvalidContent, match="not finite"):
            await interpolate(repository.get("tiny"), start, end, steps=3, method=SLERP, latents=True)


async def test_a_bundle_without_a_prior_samples_nothing(root: Path) -> None:
    publish(root)
    async with repository_of(root) as repository:
        with pytest.raises(OperationNotSupported):
            await sample(repository.get("tiny"), count=1, seed=1)
