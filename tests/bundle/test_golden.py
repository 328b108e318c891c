"""The probe: kept bit for bit, and replayed against the tolerance that the bundle itself states."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from bundle.calibration import Floats
from bundle.errors import GoldenInvalid, GoldenMismatch
from bundle.golden import Expected, Golden
from bundle.operations import Family, Method
from tests.bundle_factory import make_golden, run

Run = Callable[[Method, Floats], tuple[Floats, ...]]


def altered(method: Method, alter: Callable[[Floats], Floats]) -> Run:
    """The program, but the first array that `method` returns is altered."""

    def altered_run(called: Method, rows: Floats) -> tuple[Floats, ...]:
        first, *rest = run(called, rows)
        return (alter(first) if called is method else first, *rest)

    return altered_run


def tolerating(golden: Golden, method: Method, *, rtol: float, atol: float) -> Golden:
    expected = Expected(golden.expected[method].outputs, rtol, atol)
    return dataclasses.replace(golden, expected={**golden.expected, method: expected})


def last_is_nan(rows: Floats) -> Floats:
    rows = rows.copy()
    rows[-1, -1] = np.nan
    return rows


@pytest.mark.parametrize("family", Family)
def test_bytes_hold_the_probe_exactly(family: Family) -> None:
    golden = tolerating(make_golden(family), Method.DECODE, rtol=0.125, atol=3e-7)
    again = Golden.from_bytes(golden.to_bytes())
    assert set(again.expected) == set(golden.expected)
    for old, new in [(golden.inputs, again.inputs), (golden.latents, again.latents)]:
        assert old.tobytes() == new.tobytes()
    for method, expected in golden.expected.items():
        assert (again.expected[method].rtol, again.expected[method].atol) == (expected.rtol, expected.atol)
        for old, new in zip(expected.outputs, again.expected[method].outputs, strict=True):
            assert (old.tobytes(), old.shape, old.dtype) == (new.tobytes(), new.shape, new.dtype)


def test_equal_probes_have_equal_bytes() -> None:
    assert make_golden().to_bytes() == make_golden().to_bytes()


@pytest.mark.parametrize("family", Family)
def test_the_program_that_made_the_probe_passes_without_error(family: Family) -> None:
    assert make_golden(family).replay(run) == 0


def test_decode_is_given_the_codes_and_every_other_method_the_inputs() -> None:
    golden = make_golden(Family.VARIATIONAL)
    given = {}

    def watched(method: Method, rows: Floats) -> tuple[Floats, ...]:
        given[method] = rows
        return run(method, rows)

    golden.replay(watched)
    assert set(given) == set(golden.expected)
    for method, rows in given.items():
        assert rows is (golden.latents if method is Method.DECODE else golden.inputs)


@pytest.mark.parametrize("method", make_golden().expected)
def test_an_answer_beyond_the_tolerance_is_refused(method: Method) -> None:
    with pytest.raises(GoldenMismatch, match=rf"^{method} is off .* by 0\.001, beyond rtol 0\.0001 and atol 1e-05"):
        make_golden().replay(altered(method, lambda rows: rows + np.float32(1e-3)))


def test_the_largest_error_within_the_tolerance_is_returned() -> None:
    error = make_golden().replay(altered(Method.DECODE, lambda rows: rows + np.float32(2**-17)))
    assert error == pytest.approx(2**-17, rel=0.01)


@pytest.mark.parametrize(
    ("rtol", "atol", "passes"), [(0, 0.01, True), (0, 0.001, False), (0.01, 0.0001, True), (0, 0, False)]
)
def test_the_tolerance_in_the_bundle_is_what_counts(rtol: float, atol: float, passes: bool) -> None:
    golden = Golden.from_bytes(tolerating(make_golden(), Method.DECODE, rtol=rtol, atol=atol).to_bytes())
    program = altered(Method.DECODE, lambda rows: rows * np.float32(1.005))
    if passes:
        assert golden.replay(program) > 0
    else:
        with pytest.raises(GoldenMismatch, match="decode"):
            golden.replay(program)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (last_is_nan, "by nan"),
        (lambda rows: rows * np.float32(np.inf) + 1, "by (nan|inf)"),
        (lambda rows: rows[:-1], "shapes"),
        (lambda rows: rows[:, :-1], "shapes"),
        (lambda rows: rows[:, :1], "shapes"),
        (lambda rows: rows[None], "shapes"),
        (lambda rows: rows.astype(np.float64), "types"),
    ],
    ids=["NaN", "infinite", "row missing", "column missing", "broadcastable", "dimension too many", "double precision"],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in multiply")
def test_an_answer_of_the_wrong_kind_is_refused(alter: Callable[[Floats], Floats], message: str) -> None:
    with pytest.raises(GoldenMismatch, match=f"decode.*{message}"):
        make_golden().replay(altered(Method.DECODE, alter))


def test_an_infinite_tolerance_cannot_be_stated() -> None:
    with pytest.raises(GoldenInvalid, match="finite"):
        Expected((), rtol=0, atol=np.inf)


@pytest.mark.parametrize("outputs", [(), (0, 0), (0, 0, 0)], ids=["none", "two", "three"])
def test_a_wrong_number_of_answers_is_refused(outputs: tuple[int, ...]) -> None:
    with pytest.raises(GoldenMismatch, match="encode returns"):
        make_golden().replay(
            lambda method, rows: (
                tuple(run(method, rows)[i] for i in outputs) if method is Method.ENCODE else run(method, rows)
            )
        )


def test_a_distribution_has_two_answers() -> None:
    with pytest.raises(GoldenMismatch, match="encode_distribution returns"):
        make_golden(Family.VARIATIONAL).replay(lambda method, rows: run(method, rows)[:1])


def test_a_program_that_fails_is_not_said_to_mismatch() -> None:
    """What a runtime raises is the runtime's to explain."""

    def broken(_method: Method, _rows: Floats) -> tuple[Floats, ...]:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        make_golden().replay(broken)
