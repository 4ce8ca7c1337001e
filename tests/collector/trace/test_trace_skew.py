"""Clocks of different hosts: what the calls prove is corrected, with a bound; what they do not, is not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.model import Record, Trace
from collector.trace.build import build_trace

TRACE_ID = "ab" * 16
MS = 1_000_000


def call(
    number: int, *, at_ms: float, out_ms: float, work_ms: float, back_ms: float, skew_ms: float
) -> list[Record]:
    """A client's span on host A and the server's on host B, whose clock is `skew_ms` ahead."""
    end_ms = at_ms + out_ms + work_ms + back_ms
    return [
        _span(2 * number, None, "A", "CLIENT", at_ms, end_ms),
        _span(
            2 * number + 1,
            2 * number,
            "B",
            "SERVER",
            at_ms + out_ms + skew_ms,
            at_ms + out_ms + work_ms + skew_ms,
        ),
    ]


def _span(number: int, parent: int | None, host: str, kind: str, start_ms: float, end_ms: float) -> Record:
    return Record(
        uid=f"s{number}",
        kind="span",
        timestamp_ns=10**15 + round(start_ms * MS),
        duration_ns=round(end_ms * MS) - round(start_ms * MS),
        level="INFO",
        severity_number=9,
        service=host.lower(),
        trace_id=TRACE_ID,
        span_id=f"{number + 1:016x}",
        parent_span_id=None if parent is None else f"{parent + 1:016x}",
        name="op",
        span_kind=kind,
        resource={"host.name": host},
    )


def build(*calls: list[Record]) -> Trace:
    return build_trace(TRACE_ID, [record for pair in calls for record in pair])


def skew_of(trace: Trace, service: str) -> tuple[int, int | None]:
    found = {(node.skew_ns, node.skew_bound_ns) for node in trace.walk() if node.service == service}
    assert len(found) == 1, "one clock has one correction"
    return found.pop()


calls_strategy = st.lists(
    st.tuples(st.floats(0, 1000), st.floats(0.01, 20), st.floats(0, 50), st.floats(0.01, 20)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(calls_strategy, st.floats(-60_000, 60_000))
def test_the_truth_lies_within_the_bound(
    calls: list[tuple[float, float, float, float]], skew_ms: float
) -> None:
    """Whatever the delays, the correction that is shown is off by at most the bound shown with it."""
    trace = build(
        *(
            call(n, at_ms=at, out_ms=out, work_ms=work, back_ms=back, skew_ms=skew_ms)
            for n, (at, out, work, back) in enumerate(calls)
        )
    )
    shift_ns, bound_ns = skew_of(trace, "b")
    if bound_ns is None:
        return  # nothing was proved; the next test says when that may be
    assert abs(shift_ns + skew_ms * MS) <= bound_ns + 2  # rounding to nanoseconds
    assert skew_of(trace, "a") == (0, None)


@settings(max_examples=200, deadline=None)
@given(calls_strategy, st.floats(-60_000, 60_000))
def test_what_is_impossible_is_always_corrected(
    calls: list[tuple[float, float, float, float]], skew_ms: float
) -> None:
    """After the correction no call lies outside its caller by more than clocks resolve."""
    trace = build(
        *(
            call(n, at_ms=at, out_ms=out, work_ms=work, back_ms=back, skew_ms=skew_ms)
            for n, (at, out, work, back) in enumerate(calls)
        )
    )
    for root in trace.roots:
        for child in root.children:
            assert child.start_ns >= root.start_ns - MS
            assert child.end_ns <= root.end_ns + MS


def test_many_calls_narrow_the_bound() -> None:
    """The quickest way out and the quickest way back decide, not the average."""
    slow = call(0, at_ms=0, out_ms=40, work_ms=5, back_ms=40, skew_ms=5_000)
    quick_out = call(1, at_ms=200, out_ms=1, work_ms=5, back_ms=30, skew_ms=5_000)
    quick_back = call(2, at_ms=400, out_ms=30, work_ms=5, back_ms=2, skew_ms=5_000)
    _, bound_of_one = skew_of(build(slow), "b")
    shift, bound = skew_of(build(slow, quick_out, quick_back), "b")
    assert bound_of_one == 40 * MS
    assert bound == 1_500_000
    assert abs(shift + 5_000 * MS) <= bound


@pytest.mark.parametrize("skew_ms", [0, 0.4, -0.4, 3, -3])
def test_a_difference_that_nothing_proves_is_left_alone(skew_ms: float) -> None:
    """As long as the calls fit into their callers, the raw times stand."""
    trace = build(call(0, at_ms=0, out_ms=4, work_ms=5, back_ms=4, skew_ms=skew_ms))
    assert skew_of(trace, "b") == (0, None)


def test_times_that_are_only_rounded_prove_nothing() -> None:
    """Tracers round to milliseconds; that is no skew."""
    trace = build(call(0, at_ms=0, out_ms=0.3, work_ms=5, back_ms=0.3, skew_ms=-1))
    assert skew_of(trace, "b") == (0, None)


def test_raw_times_stay_in_the_record() -> None:
    """The correction is shown beside what was sent, never instead of it."""
    records = call(0, at_ms=0, out_ms=2, work_ms=5, back_ms=2, skew_ms=9_000)
    node = build(records).roots[0].children[0]
    assert node.record == records[1]
    assert node.start_ns == records[1].timestamp_ns + node.skew_ns


def test_a_call_that_was_not_waited_for_does_not_pull_the_clock() -> None:
    """A server that works longer than its caller waited says only when it began at the earliest."""
    records = [_span(0, None, "A", "CLIENT", 0, 10), _span(1, 0, "B", "SERVER", 2, 900)]
    assert skew_of(build_trace(TRACE_ID, records), "b") == (0, None)


def test_a_message_taken_up_before_it_was_sent_is_moved_behind() -> None:
    """Of a message only one side is known, so the correction is the least, its bound its own size."""
    records = [_span(0, None, "A", "PRODUCER", 100, 101), _span(1, 0, "B", "CONSUMER", 40, 60)]
    assert skew_of(build_trace(TRACE_ID, records), "b") == (60 * MS, 60 * MS)


def test_calls_in_both_directions_tell_of_the_same_clocks() -> None:
    """What B's calls to A prove narrows what A's calls to B do."""
    there = [_span(0, None, "A", "CLIENT", 0, 16), _span(1, 0, "B", "SERVER", 501, 515)]
    back = [_span(2, 1, "B", "CLIENT", 506, 514), _span(3, 2, "A", "SERVER", 9, 11)]
    loose = [_span(4, 1, "B", "CLIENT", 502, 514), _span(5, 4, "A", "SERVER", 8, 10)]
    assert skew_of(build_trace(TRACE_ID, there + back), "b") == (-500 * MS, 1 * MS)
    assert skew_of(build_trace(TRACE_ID, there + back + loose), "b") == (-500 * MS, 1 * MS)
    wide = [_span(0, None, "A", "CLIENT", 0, 40), _span(1, 0, "B", "SERVER", 510, 515)]
    assert skew_of(build_trace(TRACE_ID, wide + back), "b") == (-500 * MS, 3 * MS)


def test_corrections_add_up_along_the_chain() -> None:
    """The third host is corrected against the second, which is corrected against the first."""
    records = [
        _span(0, None, "A", "CLIENT", 0, 30),
        _span(1, 0, "B", "SERVER", 1_010, 1_020),
        _span(2, 1, "B", "CLIENT", 1_012, 1_018),
        _span(3, 2, "C", "SERVER", 5_014, 5_016),
    ]
    trace = build_trace(TRACE_ID, records)
    second, third = skew_of(trace, "b"), skew_of(trace, "c")
    assert abs(second[0] + 1_000 * MS) <= (second[1] or 0)
    assert abs(third[0] + 5_000 * MS) <= (third[1] or 0)
    assert (third[1] or 0) > (second[1] or 0)
