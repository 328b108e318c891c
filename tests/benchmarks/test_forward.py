"""Bare forward passes: what the service's figures are a share of."""

from benchmarks.forward import rows_per_second


def test_two_processes_get_through_rows() -> None:
    assert rows_per_second(16, seconds=0.05) > 0
