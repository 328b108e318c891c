"""What became of requests, counted: percentiles and shares are of what they say, and none flatters."""

import numpy as np
import pytest

from benchmarks.reliability.row import Check
from benchmarks.reliability.tally import Tally, Verdict


def tally(*requests: tuple[float, float, Verdict]) -> Tally:
    found = Tally()
    for due, seconds, verdict in requests:
        found.add(due, seconds, verdict)
    return found


def test_counts_by_verdict() -> None:
    found = tally((0, 0.1, Verdict.OK), (1, 0.2, Verdict.LOST), (2, 0.3, Verdict.OK))
    assert (len(found), found.count(Verdict.OK), found.count(Verdict.LOST), found.count(Verdict.WRONG)) == (
        3,
        2,
        1,
        0,
    )


def test_percentiles_are_of_right_answers_alone() -> None:
    found = tally(*((i, i / 1000, Verdict.OK) for i in range(1, 101)), (0, 9.0, Verdict.REFUSED))
    assert found.percentile_ms(50) == pytest.approx(51)
    assert found.percentile_ms(99) == pytest.approx(100)  # the next higher that was measured: never flattered
    assert found.percentile_ms(100) == pytest.approx(100)


def test_no_answers_have_no_percentile_and_reach_no_goal() -> None:
    percentile = tally((0, 0.1, Verdict.LOST)).percentile_ms(99)
    assert np.isnan(percentile)
    assert not Check(what="", measured=percentile, bound=1e9).holds
    assert not Check(what="", measured=percentile, bound=0, at_most=False).holds


def test_a_part_holds_what_was_due_in_its_time_whenever_it_ended() -> None:
    found = tally((1, 9, Verdict.OK), (2, 0.1, Verdict.LOST), (3, 0.1, Verdict.OK))
    part = found.between(1, 3)
    assert (len(part), part.count(Verdict.OK), part.count(Verdict.LOST)) == (2, 1, 1)
    part.add(5, 1, Verdict.OK)  # a part of its own
    assert len(found) == 3


def test_parts_are_joined() -> None:
    parts = [tally((1, 1, Verdict.OK)), tally((2, 3, Verdict.OK), (3, 1, Verdict.WRONG))]
    whole = Tally.joined(parts)
    assert (len(whole), whole.percentile_ms(100), whole.count(Verdict.WRONG)) == (3, 3000, 1)


def test_goodput_counts_right_answers_within_the_deadline() -> None:
    found = tally((0, 0.9, Verdict.OK), (0, 1.1, Verdict.OK), (0, 0.1, Verdict.REFUSED))
    assert found.within(1.0) == 1


def test_what_was_accepted_and_not_answered_took_its_whole_deadline_however_soon_that_was_said() -> None:
    answered = [(0, 0.1, Verdict.OK)] * 98
    found = tally(*answered, (0, 0.2, Verdict.LATE), (0, 0.2, Verdict.LATE), (0, 9.0, Verdict.REFUSED))
    assert found.percentile_ms(99) == pytest.approx(100)
    assert found.accepted_percentile_ms(99, deadline=1.0) == pytest.approx(1000)
    assert found.accepted_within(1.0) == pytest.approx(0.98)
    late = tally(*answered, (0, 1.4, Verdict.LATE), (0, 1.5, Verdict.LATE))
    assert late.accepted_percentile_ms(100, deadline=1.0) == pytest.approx(1500)


def test_where_all_was_refused_nothing_was_accepted_in_time() -> None:
    found = tally((0, 0.1, Verdict.REFUSED))
    assert np.isnan([found.accepted_within(1.0), found.accepted_percentile_ms(99, deadline=1.0)]).all()
