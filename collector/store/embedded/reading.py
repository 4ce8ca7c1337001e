"""Records in order, out of one partition and out of many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Final

import tantivy

from collector.model import Record
from collector.store.conditions import And, Condition, Equals, Range, matches
from collector.store.contract import Place
from collector.store.embedded import schema as sc
from collector.store.embedded import terms as t
from collector.store.embedded.snapshot import Hit, Snapshot
from collector.store.embedded.translate import both, terms_query, translate
from collector.store.embedded.windows import Window
from collector.store.paging import place_of

CHUNK_RECORDS_MAX: Final = 8192  # tantivy reserves room for as many as are asked for


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

    def seqs(self) -> list[int]:
        """The numbers of the records; 0 for one that has none. Only where the query is exact."""
        return [
            seq or 0
            for hits in self.hits()
            for seq in self.snapshot.column(sc.SEQ, [address for _, address in hits])
        ]

    def counts_by(self, column: str) -> dict[int, int]:
        """How many of the records have each value of a number column, which must have few."""
        if self.exact:
            return self.snapshot.group_counts(self.query, column)
        counts: Counter[int] = Counter()
        for hits in self.hits():
            for hit in hits:
                if self.verified([hit]):
                    counts.update(
                        value for value in self.snapshot.column(column, [hit[1]]) if value is not None
                    )
        return counts

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
        window = Window.first(self.snapshot, edge, length) if newest_first else None
        while True:
            query = self.query if window is None else both(self.query, window.query)
            if edge is not None:
                low, high = (sc.I64_MIN, edge) if newest_first else (edge, sc.I64_MAX)
                query = both(query, order_range(low, high))
            hits = self.snapshot.top_by(sc.ORDER, length, query, newest_first=newest_first)
            found = len(hits)
            if found == length:
                last = hits[-1][0]
                if hits[0][0] == last:
                    hits = self._at(last)
                    edge = last - 1 if newest_first else last + 1
                else:
                    hits = [hit for hit in hits if hit[0] != last]
                    edge = last
            if hits:
                yield hits
            if found == length:
                length = min(2 * length, CHUNK_RECORDS_MAX)
                if edge is not None and not sc.I64_MIN <= edge <= sc.I64_MAX:
                    return
            elif window is None or window.floor is None:
                return
            else:
                edge = window.floor - 1
                window = window.before(self.snapshot, hardly_any=4 * found < length)

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


def stored_uids(snapshot: Snapshot, uids: Collection[str]) -> set[str]:
    """Which of these uids the partition has."""
    by_term = {t.id_term(t.UID, uid): uid for uid in uids if t.sayable(uid)}
    frequencies = {term: snapshot.searcher.doc_freq(sc.TERMS, term) for term in by_term}
    found = [term for term, frequency in frequencies.items() if frequency]
    if not found:
        return set()
    # The frequencies still count what was deleted, until a merge. Seldom is there any.
    if snapshot.count(terms_query(found)) < sum(frequencies.values()):
        found = [term for term in found if snapshot.count(terms_query([term]))]
    return {by_term[term] for term in found}


def order_range(low: int, high: int) -> tantivy.Query:
    """The records of a time, both ends included."""
    return tantivy.Query.range_query(sc.SCHEMA, sc.ORDER, tantivy.FieldType.Integer, low, high)


__all__ = ["Plan", "newest_first", "order_range", "plan", "plans", "stored_uids", "trace_records"]
