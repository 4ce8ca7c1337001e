"""Every span of many traces, in the order in which the questions about context need it."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from collector.diagnose.contexts.chance import Stretches
from collector.diagnose.visits import operation_name
from collector.model import Record, SpanNode, Trace

SPOOL_ID_CHARS: Final = 32
CROWD_MAX: Final = 200  # spans that are looked through for one that was going on at a moment


class Place(NamedTuple):
    """What spans are that do the same."""

    service: str
    operation: str  # the span's name without ids
    span_kind: str | None


class Seen(NamedTuple):
    """One span where it was seen."""

    node: SpanNode
    trace: Trace
    parent: SpanNode | None  # None: it begins the trace, or its parent never came
    place: Place

    @property
    def is_root(self) -> bool:
        """Whether it begins a trace, and says so."""
        return self.parent is None and self.node.record.parent_span_id is None

    @property
    def is_orphan(self) -> bool:
        """Whether it names a parent that never came."""
        return self.parent is not None and self.parent.inferred


class Spans:
    """What was seen in a stretch of time.

    Attributes:
        seen: every span that was recorded.
        by_place: the same.
        first_ns, last_ns: earliest beginning and latest end of any.
    """

    def __init__(self, traces: Iterable[Trace]) -> None:
        self.traces = list(traces)
        self.seen: list[Seen] = []
        self.by_place: dict[Place, list[Seen]] = defaultdict(list)
        for trace in self.traces:
            parents = {id(child): node for node in trace.walk() for child in node.children}
            for node in trace.walk():
                if not node.inferred:
                    one = Seen(node, trace, parents.get(id(node)), place_of(node))
                    self.seen.append(one)
                    self.by_place[one.place].append(one)
        self.first_ns = min((one.node.record.timestamp_ns for one in self.seen), default=0)
        self.last_ns = max((one.node.record.end_ns for one in self.seen), default=0)

    def parents_of(self, place: Place) -> dict[Place, int]:
        """Where spans of a place had their parents, and how often."""
        counts: dict[Place, int] = defaultdict(int)
        for one in self.by_place.get(place, ()):
            if one.parent is not None and not one.parent.inferred:
                counts[place_of(one.parent)] += 1
        return counts


class Course:
    """Spans of one sort in the order in which they began, for questions about moments.

    Attributes:
        busy: when any of them was going on.
    """

    def __init__(self, seen: Iterable[Seen]) -> None:
        self._seen = sorted(seen, key=lambda one: one.node.record.timestamp_ns)
        self._begins = [one.node.record.timestamp_ns for one in self._seen]
        self.busy = Stretches((one.node.record.timestamp_ns, one.node.record.end_ns) for one in self._seen)

    def at(self, time_ns: int, off_ns: int = 0) -> Iterator[Seen]:
        """Those that were going on, the one that began last first; of a crowd only the last to begin.

        Args:
            off_ns: how far the clocks may be apart.
        """
        after = bisect_right(self._begins, time_ns + off_ns)
        for one in reversed(self._seen[max(0, after - CROWD_MAX) : after]):
            if time_ns <= one.node.record.end_ns + off_ns:
                yield one


def place_of(node: SpanNode) -> Place:
    """The place of a span."""
    return Place(node.service, operation_name(node.name), node.record.span_kind)


def process_of(record: Record) -> str:
    """What tells the processes apart that records came from: their spool, else the instance."""
    spool_id, dash, _ = record.uid.partition("-")
    if dash and len(spool_id) == SPOOL_ID_CHARS:
        return spool_id
    return f"{record.service}\0{record.instance or ''}"
