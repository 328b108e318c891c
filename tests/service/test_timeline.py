"""What a request went through: its waiting and its passes, each once, whatever else was under way."""

from service.engine.timeline import MOST, TIMELINE, Spent, Stage, Timeline


def a_pass(timeline: Timeline, *, queued: Stage, start: float, end: float, rows: int = 1) -> Stage:
    passing = Stage("forward", rows=rows)
    timeline.leave_queue(queued, passing, start)
    passing.begins(start)
    passing.end = end
    return passing


def test_waiting_and_passes_add_up() -> None:
    timeline = Timeline()
    for start in (10.0, 20.0):
        a_pass(timeline, queued=timeline.begin("queue", start), start=start + 1, end=start + 4, rows=int(start))
    assert timeline.spent() == Spent(queue_seconds=2, forward_seconds=6, passes=2, batch_rows=20)


def test_parts_of_a_request_do_not_wait_while_others_of_it_are_in_a_pass() -> None:
    """Two parts come at 10 and are in passes from 11 to 14 and, after somebody else's, from 15 to 18."""
    timeline = Timeline()
    first, second = (timeline.begin("queue", 10.0) for _ in range(2))
    a_pass(timeline, queued=first, start=11, end=14)
    assert timeline.leave_queue(second, Stage("forward"), 15) == 5, "the metric's: since it came"
    assert (second.start, second.end) == (14, 15)
    assert timeline.spent().queue_seconds == 2


def test_a_pass_that_is_shared_is_one_stage_and_counts_for_all() -> None:
    passing = Stage("forward", rows=2)
    timelines = [Timeline(), Timeline()]
    for timeline in timelines:
        timeline.leave_queue(timeline.begin("queue", 10.0), passing, 11.0)
    passing.begins(11.5)
    passing.end = 12.0
    assert [timeline.spent() for timeline in timelines] == [Spent(1, 0.5, 1, 2)] * 2
    assert timelines[0].stages[-1] is timelines[1].stages[-1]


def test_a_pass_in_parts_lasts_from_the_first_to_the_last() -> None:
    passing = Stage("forward")
    for start, end in ((10, 11), (12, 15)):
        passing.begins(start)
        passing.end = end
    assert passing.seconds == 5


def test_what_has_not_ended_took_no_time_yet() -> None:
    timeline = Timeline()
    timeline.begin("queue", 10.0)
    timeline.add(Stage("forward", rows=9))
    assert timeline.spent() == Spent()


def test_a_stream_keeps_its_latest_stages_and_the_sum_of_all() -> None:
    timeline = Timeline()
    for start in range(1, 1001):
        a_pass(timeline, queued=timeline.begin("queue", start), start=start + 0.25, end=start + 0.5)
    assert len(timeline.stages) == MOST
    assert timeline.spent() == Spent(queue_seconds=250, forward_seconds=250, passes=1000, batch_rows=1)
    assert timeline.stages[-1].end == 1000.5


def test_what_is_no_request_is_not_kept() -> None:
    timeline = TIMELINE.get()
    a_pass(timeline, queued=timeline.begin("queue", 10.0), start=11, end=12)
    assert timeline.stages == []
    assert timeline.spent() == Spent()
