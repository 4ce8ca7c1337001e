"""Runs as they are counted: by their ways, and by the parts of a stretch of time."""

from __future__ import annotations

from typing import Any

from collector.diagnose.baseline import Baseline
from collector.diagnose.visits import BEGIN, CALL, END, LOG, Vocabulary, visits_of
from collector.diagnose.window import SPANS_LOST_MIN, Window, windows_of_parts
from collector.templates import TemplateMiner


def test_a_route_is_the_turns_by_their_names(shop: Any, faults: Any) -> None:
    """Whatever a run does: healthy, failing, left open, with calls in a row."""
    plans = (None, faults.exception(), faults.crash(), faults.too_many_calls(), faults.retries())
    visits = visits_of([shop.trace(plan) for plan in plans], Vocabulary(TemplateMiner()))
    assert len({visit.route for visit in visits}) > 10
    for visit in visits:
        assert visit.route == tuple((before, after) for before, after, _, _ in visit.turns())


def test_equal_routes_are_one_object(shop: Any) -> None:
    """So that what many runs have in common is counted once for all of them."""
    one, other = ([v.route for v in visits_of([shop.trace()], Vocabulary(TemplateMiner()))] for _ in range(2))
    assert all(here is there for here, there in zip(one, other, strict=True))


def test_a_route_goes_lane_by_lane(shop: Any) -> None:
    """The order between calls and lines says little: their clocks may differ."""
    entry = visits_of([shop.trace()], Vocabulary(TemplateMiner()))[0]
    assert entry.route == (
        (BEGIN[CALL], f"{CALL}orders\tPOST /orders"),
        (f"{CALL}orders\tPOST /orders", END),
        (BEGIN[LOG], f"{LOG}shop/gateway.py:20"),
        (f"{LOG}shop/gateway.py:20", f"{LOG}shop/gateway.py:28"),
        (f"{LOG}shop/gateway.py:28", END),
    )


def test_what_the_parts_saw_adds_up_to_what_the_whole_saw(shop: Any, faults: Any) -> None:
    """Counting a long stretch once is as good as counting it twice."""
    baseline = Baseline()
    baseline.learn(shop.traces(40))
    # Blocks of ten seconds, so that sums of the same numbers are made in the same order.
    parts = [[*shop.traces(7), *shop.traces(2, faults.exception())], shop.traces(10), shop.traces(1)]
    whole, *windows = windows_of_parts(parts, baseline)
    assert [len(window.traces) for window in windows] == [9, 10, 1]
    counted = Window([trace for part in parts for trace in part], baseline)
    assert whole.seen == counted.seen
    assert whole.visits and sum(len(window.visits) for window in windows) == len(whole.visits)


def test_a_part_that_lost_spans_does_not_count_for_the_whole(shop: Any, plans: Any) -> None:
    """What it leaves out of account by its own measure was not lost for the whole, most of which arrived."""
    baseline = Baseline()
    baseline.learn(shop.traces(40))
    thinned = [record for record in shop.records() if record.name != "/shop/Reserve"]
    parts = [shop.traces(49), plans.built(thinned)]
    whole, _, part = windows_of_parts(parts, baseline)
    assert whole.spans_lost < SPANS_LOST_MIN < part.spans_lost
    counted = Window([trace for traces in parts for trace in traces], baseline)
    assert whole.seen.operations == counted.seen.operations
