"""How far the clocks of a trace's hosts are apart, from the calls between them.

A call that was waited for began and ended inside the span that made it. Each such call therefore says
between which two values the difference of the clocks must lie; all calls between two hosts together
leave a narrow range. Only a difference that is proved by a call outside its caller is corrected, to the
middle of the range, whose half width is the bound that is shown with it.

Source: the interval method of D. Mills, "Internet Time Synchronization: the Network Time Protocol"
(1991), section on clock filters, applied to spans instead of packets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Final

import msgspec

from collector.model import Record, SpanNode
from tracing.semconv import HOST_NAME

# Many tracers round times to milliseconds: less than that proves nothing about a clock.
CLOCK_RESOLUTION_NS: Final = 1_000_000

_WAITED_FOR: Final = {("CLIENT", "SERVER"), (None, None), (None, "SERVER"), ("CLIENT", None)}
_SENT: Final = {("PRODUCER", "CONSUMER")}


class Skew(msgspec.Struct, frozen=True):
    """What is added to a clock's times, and how far that may be off."""

    shift_ns: int
    bound_ns: int


class _Range:
    """Between which values the callee's clock may be behind its caller's, call by call."""

    __slots__ = ("highs", "lows")

    def __init__(self) -> None:
        self.lows: list[int] = []
        self.highs: list[int] = []


def clock_of(record: Record) -> Hashable:
    """Names the clock that a record's times were read from: its host, or the nearest that is known."""
    host = record.resource.get(HOST_NAME)
    return ("host", str(host)) if host else ("instance", record.service, record.instance)


def clock_skews(nodes: Sequence[SpanNode], parents: Sequence[int]) -> dict[Hashable, Skew]:
    """Which clocks must be corrected, relative to the clock of the earliest root that calls them.

    Args:
        nodes: every span, as `relate` gives them.
        parents: index of each one's parent, -1 for roots.
    """
    clocks = [clock_of(node.record) for node in nodes]
    # In order of time, so that the order in which records arrived does not matter.
    in_order = sorted(range(len(nodes)), key=lambda at: (nodes[at].record.timestamp_ns, nodes[at].span_id))
    ranges: dict[tuple[Hashable, Hashable], _Range] = defaultdict(_Range)
    for at in in_order:
        parent = parents[at]
        if parent >= 0 and clocks[at] != clocks[parent]:
            _narrow(ranges, clocks[parent], clocks[at], nodes[parent], nodes[at])
    steps: dict[Hashable, list[tuple[Hashable, Skew | None]]] = defaultdict(list)
    for (caller, callee), known in ranges.items():
        step = _step(known)
        steps[caller].append((callee, step))
        steps[callee].append((caller, Skew(-step.shift_ns, step.bound_ns) if step else None))
    roots = [clocks[at] for at in in_order if parents[at] < 0]
    return _spread(roots, steps)


def _narrow(
    ranges: dict[tuple[Hashable, Hashable], _Range],
    caller: Hashable,
    callee: Hashable,
    parent: SpanNode,
    child: SpanNode,
) -> None:
    kinds = (parent.record.span_kind, child.record.span_kind)
    if parent.inferred or (kinds not in _WAITED_FOR and kinds not in _SENT):
        return
    low = parent.record.timestamp_ns - child.record.timestamp_ns
    high = parent.record.end_ns - child.record.end_ns
    waited = kinds in _WAITED_FOR and parent.finished and child.finished and low <= high
    # One range for each pair of clocks, whoever calls: the other direction has the signs turned.
    if (callee, caller) in ranges:
        known = ranges[callee, caller]
        known.highs.append(-low)
        if waited:
            known.lows.append(-high)
        return
    known = ranges[caller, callee]
    known.lows.append(low)  # nothing starts before it was asked for
    if waited:
        known.highs.append(high)


def _step(known: _Range) -> Skew | None:
    """The correction that the calls between two clocks prove; None: they prove none."""
    low = max(known.lows, default=None)
    high = min(known.highs, default=None)
    if low is not None and high is not None:
        if low > high:  # jitter, or a call that was not waited for after all: the range is turned round
            low, high = high, low
        if low <= CLOCK_RESOLUTION_NS and high >= -CLOCK_RESOLUTION_NS:
            return None
        return Skew((low + high) // 2, (high - low + 1) // 2)
    # Only one side is known (messages): the least correction that makes the order possible. Its bound
    # is its own size, since nothing says how long the message was under way.
    if low is not None and low > CLOCK_RESOLUTION_NS:
        return Skew(low, low)
    if high is not None and high < -CLOCK_RESOLUTION_NS:
        return Skew(high, -high)
    return None


def _spread(
    roots: Sequence[Hashable], steps: dict[Hashable, list[tuple[Hashable, Skew | None]]]
) -> dict[Hashable, Skew]:
    """Add the steps up along the calls, from the roots' clocks down."""
    found: dict[Hashable, Skew] = {}
    for root in dict.fromkeys(roots):
        if root in found:
            continue
        found[root] = Skew(0, 0)
        queue = [root]
        for clock in queue:
            base = found[clock]
            for other, step in steps.get(clock, ()):
                if other not in found:
                    found[other] = (
                        Skew(base.shift_ns + step.shift_ns, base.bound_ns + step.bound_ns) if step else base
                    )
                    queue.append(other)
    return {clock: skew for clock, skew in found.items() if skew.shift_ns}
