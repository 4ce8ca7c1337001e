"""Records in order, out of one partition and out of many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Final

import tantivy

from collector.model import Record
from collector.store.conditions import And, Condition, Equals, Range, matches
from collector.store.embedded import schema as sc
from collector.store.embedded.snapshot import Hit, Snapshot
from collector.store.embedded.translate import both, minutes_query, translate
from collector.store.paging import Place, place_of

CHUNK_RECORDS_MAX: Final = 8192  # tantivy reserves room for as many as are asked for
# From how many found records on only some minutes are asked for; how many more records than wanted the
# first of them may hold; how the number grows.
_NARROWED_RECORDS_MIN: Final = 20_000
_MINUTES_RESERVE: Final = 4
_MINUTES_GROWTH: Final = 16
_MINUTES_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Plan:
    """A condition, ready to be asked of one partition."""

    snapshot: Snapshot
    query: tantivy.Query
    condition: Condition
    exact: bool  # whether the query finds no record that does not fulfil the condition

    def count(self) -> int:
        """How many records fulfil the condition."""
        if self.exact:
            return self.snapshot.count(self.query)
        return sum(1 for _ in self.records())

    def records(
        self, *, newest_first: bool = True, beyond: Place | None = None, first: int = 1024
    ) -> Iterator[Record]:
        """The records that fulfil the condition, in order.

        Args:
            beyond: only what comes after this place.
            first: how many will probably be taken.
        """
        edge = None if beyond is None else sc.clamped(beyond[0])
        for hits in self.hits(newest_first=newest_first, edge=edge, first=first):
            found = self.verified(hits)
            found.sort(key=place_of, reverse=newest_first)
            for record in found:
                if beyond is None or (
                    place_of(record) < beyond if newest_first else place_of(record) > beyond
                ):
                    yield record

    def verified(self, hits: Sequence[Hit]) -> list[Record]:
        """The records of these hits that fulfil the condition."""
        records = self.snapshot.records([address for _, address in hits])
        return records if self.exact else [record for record in records if matches(self.condition, record)]

    def hits(
        self, *, newest_first: bool = True, edge: int | None = None, first: int = 1024
    ) -> Iterator[list[Hit]]:
        """What the query finds, in order of time, in lists that never part records of one time.

        Args:
            edge: begin at this time (`order`), which is included.
            first: length of the first list; the following grow.
        """
        length = min(max(first, 2), CHUNK_RECORDS_MAX)
        minutes = self._minutes_for(length) if newest_first else None
        while True:
            query, beyond = self._narrowed(edge, newest_first, minutes)
            hits = self.snapshot.top_by(sc.ORDER, length, query, newest_first=newest_first)
            if len(hits) == length:
                last = hits[-1][0]
                if hits[0][0] == last:
                    hits = self._at(last)
                    edge = last - 1 if newest_first else last + 1
                else:
                    hits = [hit for hit in hits if hit[0] != last]
                    edge = last
                length = min(2 * length, CHUNK_RECORDS_MAX)
            elif beyond is not None and minutes is not None:
                edge, minutes = beyond, minutes * _MINUTES_GROWTH
            else:
                edge = None
            if hits:
                yield hits
            if edge is None or not sc.I64_MIN <= edge <= sc.I64_MAX:
                return

    def _minutes_for(self, wanted: int) -> int | None:
        """In how many of the newest minutes so many records may be; `None`: look at all of them.

        To sort by time tantivy visits every record that a query finds. Of a large partition only some
        minutes are asked for first, by the index, and more of them when that was not enough.
        """
        bounds = self.snapshot.bounds
        if bounds is None or self.snapshot.documents < _NARROWED_RECORDS_MIN:
            return None
        matching = self.snapshot.count(self.query)
        if matching < _NARROWED_RECORDS_MIN:
            return None
        span = sc.minute_of(bounds[1]) - sc.minute_of(bounds[0]) + 1
        return 1 + span * wanted * _MINUTES_RESERVE // matching

    def _narrowed(
        self, edge: int | None, newest_first: bool, minutes: int | None
    ) -> tuple[tantivy.Query, int | None]:
        """The query from an edge on, perhaps of some minutes only; then also where these end."""
        query = self.query if edge is None else self._from(edge, newest_first)
        bounds = self.snapshot.bounds
        if minutes is None or minutes > _MINUTES_MAX or bounds is None:
            return query, None
        newest = sc.minute_of(bounds[1] if edge is None else min(edge, bounds[1]))
        oldest = newest - minutes + 1
        if oldest <= sc.minute_of(bounds[0]):
            return query, None
        return both(query, minutes_query(oldest, newest)), oldest * sc.MINUTE_NS - 1

    def _from(self, edge: int, newest_first: bool) -> tantivy.Query:
        low, high = (sc.I64_MIN, edge) if newest_first else (edge, sc.I64_MAX)
        return both(self.query, order_range(low, high))

    def _at(self, order: int) -> list[Hit]:
        query = both(self.query, order_range(order, order))
        return self.snapshot.top_by(sc.ORDER, max(1, self.snapshot.count(query)), query)


def plan(snapshot: Snapshot, condition: Condition) -> Plan:
    """Get ready to ask one partition."""
    query, exact = translate(condition, snapshot)
    return Plan(snapshot, query, condition, exact)


def plans(
    snapshots: Iterable[Snapshot], condition: Condition, start_ns: int | None, end_ns: int | None
) -> list[Plan]:
    """Get ready to ask every partition that reaches into a time; newest first."""
    made = []
    for snapshot in snapshots:
        bounds = snapshot.bounds
        if bounds is None:
            continue
        oldest, newest = bounds
        if start_ns is not None and sc.clamped(start_ns) > newest:
            continue
        if end_ns is not None and sc.clamped(end_ns) < oldest:
            continue
        inside = (start_ns is None or start_ns <= oldest) and (end_ns is None or newest < end_ns)
        if (inside and newest < sc.I64_MAX) or (start_ns is None and end_ns is None):
            made.append(plan(snapshot, condition))
        else:
            window = Range("timestamp_ns", start_ns, end_ns, high_included=False)
            made.append(plan(snapshot, And((window, condition))))
    made.sort(key=_newest_order, reverse=True)
    return made


def _newest_order(one: Plan) -> int:
    bounds = one.snapshot.bounds
    return bounds[1] if bounds else sc.I64_MIN


def newest_first(asked: Sequence[Plan], beyond: Place | None, wanted: int) -> Iterator[Record]:
    """Records of many partitions, newest first; an older partition is asked only when its turn comes.

    Args:
        asked: as `plans` gives them.
        beyond: only what comes after this place.
        wanted: how many will be taken.
    """
    waiting = list(reversed(asked))  # the one with the newest record is last
    heads: list[Record] = []
    tails: list[Iterator[Record]] = []
    while waiting or heads:
        at = max(range(len(heads)), key=lambda n: place_of(heads[n]), default=-1)
        if waiting and (at < 0 or _newest_order(waiting[-1]) >= sc.clamped(heads[at].timestamp_ns)):
            tail = waiting.pop().records(beyond=beyond, first=wanted)
            if (head := next(tail, None)) is not None:
                heads.append(head)
                tails.append(tail)
            continue
        yield heads[at]
        if (head := next(tails[at], None)) is not None:
            heads[at] = head
        else:
            del heads[at], tails[at]


def trace_records(snapshots: Iterable[Snapshot], trace_id: str, records_max: int | None) -> list[Record]:
    """The earliest records of a trace, of every kind, in order."""
    condition = Equals("trace_id", trace_id)
    first = 256 if records_max is None else min(256, records_max + 1)  # most traces are shorter
    found = [plan(snapshot, condition).records(newest_first=False, first=first) for snapshot in snapshots]
    return list(islice(merge(*found, key=place_of), records_max))


def order_range(low: int, high: int) -> tantivy.Query:
    """The records of a time, both ends included."""
    return tantivy.Query.range_query(sc.SCHEMA, sc.ORDER, tantivy.FieldType.Integer, low, high)


__all__ = ["Plan", "newest_first", "order_range", "plan", "plans", "trace_records"]
