"""The stage table: its stages are what a request is made of."""

import pytest

from benchmarks import stages
from benchmarks.peers.measure import CELLS, Cell


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: str(cell.name))
def test_the_stages_make_up_a_request(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, rounds in {"REQUESTS": 30, "ROUNDS": 10, "WARM": 2}.items():
        monkeypatch.setattr(stages, name, rounds)
    found = stages.measure("onnx", cell)
    assert found.keys() == {*stages.STAGES, "total"}
    assert all(microseconds > 0 for microseconds in found.values())
    # Medians of parts do not add up to the median of the whole, but nearly.
    assert sum(found[stage] for stage in stages.STAGES) == pytest.approx(found["total"], rel=0.5)


def test_an_answer_is_whole_when_its_length_has_come() -> None:
    sink = stages.Sink()
    sink.write(b"HTTP/1.1 200 OK\r\nx-content-length: 1\r\ncontent-length: 5\r\n\r\nab")
    assert not sink.answered.is_set()
    sink.write(b"cde")
    assert sink.answered.is_set()
