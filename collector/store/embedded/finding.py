"""Lists of traces, newest first by their start."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from heapq import heappush, heapreplace, merge
from operator import itemgetter
from typing import Final

import tantivy

from collector.store.contract import TraceSummary
from collector.store.embedded import schema as sc
from collector.store.embedded.reading import Plan, trace_records
from collector.store.embedded.snapshot import GROUPS_MAX, Hit, Snapshot
from collector.store.embedded.translate import numbered
from collector.store.summaries import summarise_trace

_FIRST_RECORDS: Final = 512
# How many traces are read in vain before it pays to look at all of them by their columns.
_REJECTED_MAX: Final = 200
_PARTS: Final = 8
_FLOAT_SLACK_NS: Final = 8_192  # tantivy's figures are floats, whose steps are 256 ns today
_EXTENTS: Final = {
    "traces": {
        "terms": {"field": sc.TRACE, "size": GROUPS_MAX},
        "aggs": {
            "low": {"min": {"field": sc.ORDER}},
            "high": {"max": {"field": sc.ORDER}},
            "longest": {"max": {"field": sc.DURATION}},
        },
    }
}


def find_traces(
    snapshots: Sequence[Snapshot],
    asked: Sequence[Plan],
    *,
    min_duration_ns: int | None,
    error: bool | None,
    limit: int,
) -> list[TraceSummary]:
    """The newest traces with a record that fulfils the plans.

    Records are visited newest first. A trace not yet met starts no later than the record that will
    lead to it, so the search ends when enough traces are known that start later than that.
    """
    if limit < 1:
        return []
    best: list[tuple[int, str, TraceSummary]] = []
    rejected = 0
    promising: Callable[[int], bool] | None = None
    for order, trace_id in _trace_ids(asked):
        if len(best) == limit and sc.clamped(best[0][0]) > order:
            break
        if promising is not None and not promising(sc.id_hash(trace_id)):
            continue
        summary = summarise_trace(trace_id, trace_records(snapshots, trace_id, None))
        if (
            summary is None
            or (error is not None and summary.error != error)
            or (min_duration_ns is not None and summary.duration_ns < min_duration_ns)
        ):
            rejected += 1
            if rejected == _REJECTED_MAX and promising is None:
                promising = _promising_traces(snapshots, min_duration_ns, error)
            continue
        entry = (summary.start_ns, trace_id, summary)
        if len(best) < limit:
            heappush(best, entry)
        elif entry > best[0]:
            heapreplace(best, entry)
    return [summary for _, _, summary in sorted(best, reverse=True)]


def _promising_traces(
    snapshots: Sequence[Snapshot], min_duration_ns: int | None, error: bool | None
) -> Callable[[int], bool]:
    """A cheap test of a trace's hash; traces that fail it are not what is looked for, others may be."""
    failed: set[int] = set()
    if error is not None:
        for snapshot in snapshots:
            failed.update(_failed_traces(snapshot))
    extents: dict[int, tuple[float, float]] = {}
    if min_duration_ns is not None:
        for snapshot in snapshots:
            for trace, low, high in _trace_extents(snapshot):
                before = extents.get(trace, (low, high))
                extents[trace] = min(low, before[0]), max(high, before[1])

    def is_promising(trace: int) -> bool:
        if error is not None and (trace in failed) != error:
            return False
        if min_duration_ns is None:
            return True
        low, high = extents.get(trace, (0.0, math.inf))
        return high - low + _FLOAT_SLACK_NS >= min_duration_ns

    return is_promising


def _failed_traces(snapshot: Snapshot) -> Iterator[int]:
    """The hashes of the traces that have an error."""
    records = snapshot.dictionary.profile_records
    numbers = [
        number
        for number, record in enumerate(records)
        if record.is_error and record.kind in ("log", "span") and record.trace_id is not None
    ]
    query = numbered(sc.PROFILE, frozenset(numbers), snapshot).query
    if count := snapshot.count(query):
        addresses = [address for _, address in snapshot.top_by(sc.ORDER, count, query)]
        yield from (trace for trace in snapshot.column(sc.TRACE, addresses) if trace is not None)


def _trace_extents(snapshot: Snapshot) -> Iterator[tuple[int, float, float]]:
    """Hash, earliest time and a bound on the latest time of every trace, nanoseconds.

    The bound is the latest start and the longest duration together, which need not be of one record.
    """
    waiting = [(0, sc.HASH_MAX)]
    while waiting:
        low, high = waiting.pop()
        query = tantivy.Query.range_query(sc.SCHEMA, sc.TRACE, tantivy.FieldType.Unsigned, low, high)
        try:
            groups = snapshot.searcher.aggregate(query, _EXTENTS)["traces"]["buckets"]
        except ValueError:
            if low == high:
                raise
            # More traces than tantivy counts at once: part of them at a time.
            step = (high - low) // _PARTS + 1
            waiting += [(at, min(at + step - 1, high)) for at in range(low, high + 1, step)]
            continue
        for group in groups:
            longest = group["longest"]["value"] or 0
            yield int(group["key"]), group["low"]["value"], group["high"]["value"] + longest


def _trace_ids(asked: Sequence[Plan]) -> Iterator[tuple[int, str]]:
    """Each trace once, with the time (`order`) of its newest matching record, newest first."""
    seen: set[str] = set()
    for order, trace_id in merge(*map(_trace_ids_of_one, asked), key=itemgetter(0), reverse=True):
        if trace_id not in seen:
            seen.add(trace_id)
            yield order, trace_id


def _trace_ids_of_one(one: Plan) -> Iterator[tuple[int, str]]:
    seen: set[int] = set()  # hashes: of a trace only the newest record is read
    for hits in one.hits(first=_FIRST_RECORDS):
        first_of: list[Hit] = []
        hashes = one.snapshot.column(sc.TRACE, [address for _, address in hits])
        if one.exact:
            for hit, trace in zip(hits, hashes, strict=True):
                if trace is not None and trace not in seen:
                    seen.add(trace)
                    first_of.append(hit)
        else:
            first_of = [hit for hit, trace in zip(hits, hashes, strict=True) if trace is not None]
        for record in one.verified(first_of):
            assert record.trace_id is not None
            yield sc.clamped(record.timestamp_ns), record.trace_id
