"""A loaded bundle: proven by its probe, and answers that every codec can write."""

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from bundle.calibration import Floats
from bundle.errors import GoldenMismatch
from bundle.operations import Family, Method, Operation
from bundle.read import read_bundle
from service.engine.loaded import prove
from service.engine.runtimes import OpenRuntime
from service.errors import InvalidContent, OperationNotSupported
from tests.bundle_factory import publish, run
from tests.service.programs import FakeRuntime, Program, rows_of
from tests.service.repositories import repository_of


def test_proving_replays_every_method_on_the_whole_probe_and_measures_the_slowest_on_large_batches(root: Path) -> None:
    folder = publish(root, family=Family.VARIATIONAL)
    calls: list[tuple[Method, int]] = []

    def noted(method: Method, rows: Floats) -> tuple[Floats, ...]:
        calls.append((method, len(rows)))
        if method is Method.DECODE:
            time.sleep(0.0001 * len(rows))
        return run(method, rows)

    proven = prove(lambda: read_bundle(folder), lambda _: FakeRuntime(noted))
    small = set(itertools.product(proven.bundle.manifest.methods, [3, 1, 4, 16]))
    assert set(calls) == small | {(Method.DECODE, 64), (Method.DECODE, 256)}
    assert proven.forward_seconds[64] >= 0.0064
    assert proven.golden_error == 0
    assert proven.load_seconds > sum(proven.forward_seconds.values())
    assert list(proven.forward_seconds) == [1, 4, 16, 64, 256]


def test_a_slow_program_is_not_measured_on_large_batches(root: Path) -> None:
    folder = publish(root)

    def slow(method: Method, rows: Floats) -> tuple[Floats, ...]:
        time.sleep(0.01 * len(rows))
        return run(method, rows)

    proven = prove(lambda: read_bundle(folder), lambda _: FakeRuntime(slow))
    assert list(proven.forward_seconds) == [1, 4]
    assert 0.01 <= proven.forward_seconds[1] < proven.forward_seconds[4]


def test_proving_refuses_a_program_that_is_off_in_any_method(root: Path) -> None:
    folder = publish(root, family=Family.VARIATIONAL)

    def off(wrong: Method) -> OpenRuntime:
        return lambda _: FakeRuntime(lambda method, rows: tuple(out + (method is wrong) for out in run(method, rows)))

    for method in sorted(read_bundle(folder).manifest.methods):
        with pytest.raises(GoldenMismatch, match=rf"^{method} "):
            prove(lambda: read_bundle(folder), off(method))


async def test_answers_are_contiguous_even_where_the_program_returns_part_of_an_array(root: Path) -> None:
    publish(root)
    async with repository_of(root) as repository:
        assert not run(Method.ENCODE, rows_of(1, 2))[0].flags.c_contiguous
        (codes,) = await repository.get("tiny").run(Method.ENCODE, rows_of(1, 2))
        assert codes.flags.c_contiguous
        np.testing.assert_array_equal(codes, rows_of(1, 2)[:, :2])


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
async def test_a_result_that_is_not_finite_is_the_fault_of_the_values_sent(root: Path, value: float) -> None:
    publish(root)
    async with repository_of(root, lambda _: FakeRuntime(Program())) as repository:
        model = repository.get("tiny")
        with pytest.raises(InvalidContent, match=r"not finite.*tiny/1"):
            await model.run(Method.RECONSTRUCT, rows_of(1, value))
        await model.run(Method.RECONSTRUCT, rows_of(1))


async def test_an_operation_that_the_bundle_lacks_is_refused_with_those_that_it_has(root: Path) -> None:
    publish(root)
    async with repository_of(root) as repository:
        model = repository.get("tiny")
        for operation in model.manifest.operations:
            model.require(operation)
        with pytest.raises(
            OperationNotSupported, match=r"^tiny/1 is a vanilla bundle and cannot sample; it can encode"
        ):
            model.require(Operation.SAMPLE)
