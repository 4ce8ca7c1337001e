"""Lists of traces, newest first by their start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from heapq import heappush, heapreplace, merge
from operator import itemgetter
from typing import Final

import tantivy

from collector.store.conditions import Equals
from collector.store.contract import Place, TraceSummary
from collector.store.embedded import schema as sc
from collector.store.embedded.reading import Plan, plan, trace_records
from collector.store.embedded.snapshot import Hit, Snapshot, TooManyGroups
from collector.store.embedded.translate import both, numbered
from collector.store.paging import place_of_trace
from collector.store.summaries import summarise_trace

_FIRST_RECORDS: Final = 512
# How many traces are read in vain before it pays to look at all of them by their columns, and of how
# many that are left each is then looked up by itself.
_REJECTED_MAX: Final = 200
_LOOKED_UP_MAX: Final = 300
_RECORDS_AT_ONCE: Final = (
    400_000  # whose traces tantivy is asked to tell apart; 20 records to a trace are usual
)
_PARTS: Final = 8
_FLOAT_SLACK_NS: Final = 8_192  # tantivy's figures are floats, whose steps are 256 ns today
_EXTENTS: Final = {
    "low": {"min": {"field": sc.ORDER}},
    "high": {"max": {"field": sc.ORDER}},
    "longest": {"max": {"field": sc.DURATION}},
}


def find_traces(
    snapshots: Sequence[Snapshot],
    asked: Sequence[Plan],
    *,
    min_duration_ns: int | None,
    error: bool | None,
    before: Place | None,
    limit: int,
) -> list[TraceSummary]:
    """The newest traces with a record that fulfils the plans, and with what is asked of the whole trace.

    Records are visited newest first. A trace not yet met starts no later than the record that will
    lead to it, so the search ends when enough traces are known that start later than that.
    """
    if limit < 1:
        return []
    search = _Search(snapshots, min_duration_ns, error, before, limit)
    for order, trace_id in _trace_ids(asked):
        if search.is_over(order):
            break
        search.take(trace_id)
        if search.rejected == _REJECTED_MAX:
            promising = _promising_traces(snapshots, min_duration_ns, error)
            if promising is not None and len(promising) <= _LOOKED_UP_MAX:
                for trace_id in _trace_ids_among(asked, promising):
                    search.take(trace_id)
                break
    return search.found()


class _Search:
    """The best traces so far, and how many were read for nothing."""

    def __init__(
        self,
        snapshots: Sequence[Snapshot],
        min_duration_ns: int | None,
        error: bool | None,
        before: Place | None,
        limit: int,
    ) -> None:
        self._snapshots = snapshots
        self._min_duration_ns = min_duration_ns
        self._error = error
        self._before = before
        self._limit = limit
        self._seen: set[str] = set()
        self._best: list[tuple[int, str, TraceSummary]] = []  # a heap: the oldest is the first
        self.rejected = 0

    def take(self, trace_id: str) -> None:
        """Read a trace, and keep it when it is one of the newest that are asked for."""
        if trace_id in self._seen:
            return
        self._seen.add(trace_id)
        summary = None
        if not self._begins_later(trace_id):
            summary = summarise_trace(trace_id, trace_records(self._snapshots, trace_id, None))
        if summary is None or not self._is_wanted(summary):
            self.rejected += 1
            return
        entry = (*place_of_trace(summary), summary)
        if len(self._best) < self._limit:
            heappush(self._best, entry)
        elif entry > self._best[0]:
            heapreplace(self._best, entry)

    def _begins_later(self, trace_id: str) -> bool:
        """Whether the trace was on a page before, as far as its times tell without reading its records."""
        if self._before is None:
            return False
        query = Equals("trace_id", trace_id)
        starts = [
            hits[0][0]
            for one in self._snapshots
            if (hits := one.top_by(sc.ORDER, 1, plan(one, query).query, newest_first=False))
        ]
        return bool(starts) and min(starts) > sc.clamped(self._before[0])

    def _is_wanted(self, summary: TraceSummary) -> bool:
        if self._before is not None and place_of_trace(summary) >= self._before:
            return False
        if self._error is not None and summary.error != self._error:
            return False
        return self._min_duration_ns is None or summary.duration_ns >= self._min_duration_ns

    def is_over(self, order: int) -> bool:
        """Whether no trace that starts at this time or earlier can be among the best."""
        return len(self._best) == self._limit and sc.clamped(self._best[0][0]) > order

    def found(self) -> list[TraceSummary]:
        """The best, newest first."""
        return [summary for _, _, summary in sorted(self._best, reverse=True)]


def _trace_ids(asked: Sequence[Plan]) -> Iterator[tuple[int, str]]:
    """The traces, with the time (`order`) of a matching record of each, newest first."""
    yield from merge(*map(_trace_ids_of_one, asked), key=itemgetter(0), reverse=True)


def _trace_ids_of_one(one: Plan) -> Iterator[tuple[int, str]]:
    seen: set[int] = set()  # hashes: of a trace only the newest record is read
    for hits in one.hits(first=_FIRST_RECORDS):
        hashes = one.snapshot.column(sc.TRACE, [address for _, address in hits])
        first_of: list[Hit] = []
        for hit, trace in zip(hits, hashes, strict=True):
            if trace is not None and trace not in seen:
                first_of.append(hit)
                if one.exact:
                    seen.add(trace)
        for record in one.verified(first_of):
            assert record.trace_id is not None
            yield sc.clamped(record.timestamp_ns), record.trace_id


# ---------------------------------------------------------------- traces by their columns


def _promising_traces(
    snapshots: Sequence[Snapshot], min_duration_ns: int | None, error: bool | None
) -> set[int] | None:
    """The hashes of the traces that may be what is asked for; `None`: these cannot be told cheaply."""
    promising: set[int] | None = None
    if min_duration_ns is not None:
        extents: dict[int, tuple[float, float]] = {}
        for snapshot in snapshots:
            for trace, low, high in _trace_extents(snapshot):
                before = extents.get(trace)
                extents[trace] = (
                    (low, high) if before is None else (min(low, before[0]), max(high, before[1]))
                )
        shortest = min_duration_ns - _FLOAT_SLACK_NS
        promising = {trace for trace, (low, high) in extents.items() if high - low >= shortest}
    if error is not None and (error or promising is not None):
        failed = {trace for snapshot in snapshots for trace in _failed_traces(snapshot)}
        if promising is None:
            promising = failed
        else:
            promising = promising & failed if error else promising - failed
    return promising


def _trace_extents(snapshot: Snapshot) -> Iterator[tuple[int, float, float]]:
    """Hash, earliest time and a bound on the latest time of every trace, nanoseconds.

    The bound is the latest start and the longest duration together, which need not be of one record.
    """
    waiting = list(_ranges(0, sc.HASH_MAX, snapshot.documents // _RECORDS_AT_ONCE + 1))
    while waiting:
        low, high = waiting.pop()
        try:
            groups = snapshot.groups(_trace_range(low, high), sc.TRACE, _EXTENTS)
        except TooManyGroups:
            waiting += _ranges(low, high, _PARTS)
            continue
        for group in groups:
            longest = group["longest"]["value"] or 0
            yield int(group["key"]), group["low"]["value"], group["high"]["value"] + longest


def _ranges(low: int, high: int, parts: int) -> Iterator[tuple[int, int]]:
    step = (high - low) // parts + 1
    for start in range(low, high + 1, step):
        yield start, min(start + step - 1, high)


def _trace_range(low: int, high: int) -> tantivy.Query:
    return tantivy.Query.range_query(sc.SCHEMA, sc.TRACE, tantivy.FieldType.Unsigned, low, high)


def _failed_traces(snapshot: Snapshot) -> Iterator[int]:
    """The hashes of the traces that have an error."""
    numbers = frozenset(
        number
        for number, record in enumerate(snapshot.dictionary.profile_records)
        if record.is_error and record.kind in ("log", "span") and record.trace_id is not None
    )
    query = numbered(sc.PROFILE, numbers, snapshot).query
    if count := snapshot.count(query):
        addresses = [address for _, address in snapshot.top_by(sc.ORDER, count, query)]
        yield from (trace for trace in snapshot.column(sc.TRACE, addresses) if trace is not None)


def _trace_ids_among(asked: Sequence[Plan], traces: set[int]) -> Iterator[str]:
    """The ids of those of the traces that have a record which fulfils a plan."""
    for one in asked:
        for trace in traces:
            of_trace = replace(one, query=both(one.query, _trace_range(trace, trace)))
            for record in of_trace.records():
                assert record.trace_id is not None
                yield record.trace_id
                break
