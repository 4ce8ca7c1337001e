"""What is normal: counted the same whatever the order, the portions and the restarts."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.diagnose.baseline import Baseline
from collector.diagnose.profile import Profile
from collector.diagnose.spread import BLOCK_NS, BLOCKS_MAX, TIME_FLOOR_NS, Spread
from collector.diagnose.visits import operation_name

lengths = st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 100 * BLOCK_NS)), max_size=60)


def spread(observations: list[tuple[int, int]]) -> Spread:
    made = Spread()
    for length_ns, at_ns in observations:
        made.add(length_ns, at_ns)
    return made


def same(one: Spread, other: Spread) -> bool:
    """Equal, the sums up to rounding."""
    sums = zip(one.blocks.items(), other.blocks.items(), strict=True)
    return one.eighths == other.eighths and all(
        a[0] == b[0] and a[1][0] == b[1][0] and math.isclose(a[1][1], b[1][1]) for a, b in sorted(sums)
    )


@given(lengths, lengths)
def test_spreads_add_up(first: list[tuple[int, int]], second: list[tuple[int, int]]) -> None:
    """Two that are merged are one that saw both."""
    merged = spread(first)
    merged.merge(spread(second))
    whole = spread(first + second)
    merged.blocks = dict(sorted(merged.blocks.items()))
    whole.blocks = dict(sorted(whole.blocks.items()))
    assert same(merged, whole)


@given(st.lists(st.integers(TIME_FLOOR_NS, 10**12), min_size=1, max_size=80), st.floats(0, 1))
def test_a_quantile_is_within_the_width_of_a_bucket(values: list[int], share: float) -> None:
    """Of the value at that place in the sorted list."""
    made = spread([(value, 0) for value in values])
    wanted = share * len(values)
    exact = sorted(values)[max(0, math.ceil(wanted) - 1)]
    assert exact / 1.1 <= made.quantile_ns(share) <= exact * 1.1


def test_an_empty_spread_has_plain_answers() -> None:
    """No observation, no error."""
    assert (Spread().count, Spread().mean, Spread().deviation, Spread().quantile_ns(0.5)) == (0, 0.0, 0.0, 0)


def test_what_is_shorter_than_clocks_resolve_is_one_length() -> None:
    """Ten nanoseconds are not a hundred times as fast as a microsecond."""
    assert spread([(0, 0), (10, 0), (TIME_FLOOR_NS, 0)]).deviation == 0


def test_the_blocks_of_a_long_life_are_bounded() -> None:
    """Old stretches of time are folded together; every observation stays counted."""
    made = Spread()
    for block in range(BLOCKS_MAX + 50):
        later = Spread()
        later.add(10**6, block * BLOCK_NS)
        made.merge(later)
    assert len(made.blocks) == BLOCKS_MAX
    assert made.count == sum(count for count, _ in made.blocks.values()) == BLOCKS_MAX + 50


def counted(traces: list[Any]) -> Baseline:
    baseline = Baseline()
    baseline.learn(traces)
    return baseline


def plain(profile: Profile) -> Any:
    """Everything that is a count, for comparison; sums of logarithms are left out."""
    return (
        profile.traces,
        profile.first_ns,
        profile.last_ns,
        {
            op: (p.visits, p.traces, p.takes, p.follows, p.repeats, p.shapes, p.self_time.eighths)
            for op, p in profile.operations.items()
        },
        {edge: (p.calls, p.traces, p.gap.eighths) for edge, p in profile.edges.items()},
        profile.errors_logged,
        profile.exceptions,
        {entry: p.traces for entry, p in profile.entries.items()},
        profile.service_visits,
        profile.service_lines,
    )


@pytest.mark.parametrize("cut", [0, 1, 7, 20])
def test_learning_in_portions_is_learning_at_once(shop: Any, faults: Any, cut: int) -> None:
    """And so is merging two baselines that learned apart."""
    traces = shop.traces(15) + shop.traces(5, faults.exception())
    whole = counted(traces)
    portions = counted(traces[:cut])
    portions.learn(traces[cut:])
    merged = counted(traces[:cut])
    merged.merge(counted(traces[cut:]))
    assert plain(portions.profile) == plain(whole.profile)
    assert plain(merged.profile) == plain(whole.profile)


def test_a_baseline_is_the_same_after_a_restart(shop: Any, faults: Any) -> None:
    """Written, read, and learning on."""
    baseline = counted(shop.traces(10))
    again = Baseline.from_bytes(baseline.to_bytes())
    assert again.profile == baseline.profile
    more = shop.traces(5, faults.exception())
    baseline.learn(more)
    again.learn(more)
    assert plain(again.profile) == plain(baseline.profile)


@pytest.mark.parametrize("data", [b"", b"\x80", b"nonsense"])
def test_bytes_that_are_no_baseline_are_refused(data: bytes) -> None:
    """With a sentence, not with half a baseline."""
    with pytest.raises(ValueError, match="baseline"):
        Baseline.from_bytes(data)


def test_a_template_that_grows_more_general_takes_its_counts_along(shop: Any, plans: Any) -> None:
    """Lines without a place are named by their template, whose identity changes as it learns."""

    def told(name: str) -> Any:
        line = plans.Line(f"customer {name} came in by the front door", 0)
        return plans.checkout().edited("price order", lambda c: plans.Call(c.service, c.name, None, (line,)))

    def forget_places(trace: Any) -> Any:
        for node in trace.walk():
            node.logs = [
                log.__class__(**{f: getattr(log, f) for f in log.__struct_fields__} | {"source": None})
                for log in node.logs
            ]
        return trace

    baseline = Baseline()
    for name in ("alice", "bob", "carol"):
        baseline.learn([forget_places(shop.trace(told(name)))])
    [profile] = [p for op, p in baseline.profile.operations.items() if op.name == "price order"]
    assert list(profile.takes.values()) == [3]
    [token] = profile.takes
    assert baseline.templates.has(token.removeprefix("log "))


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        ("GET /users/17", "GET /users/<id>"),
        ("GET /users/17/orders/6ce0fb18-8013-4884-a528-2140388dc27c", "GET /users/<id>/orders/<id>"),
        ("/api/v1/foods/{date}", "/api/v1/foods/{date}"),
        ("SELECT ts.orders_2", "SELECT ts.orders_2"),
        ("poll:42", "poll:<id>"),
        ("v1/items", "v1/items"),
        ("x" * 500, "x" * 200),
    ],
)
def test_ids_in_names_do_not_make_operations(name: str, masked: str) -> None:
    """A path with a number in it is the same operation for every number."""
    assert operation_name(name) == masked
