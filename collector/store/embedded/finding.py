"""Lists of traces, newest first by their start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappush, heapreplace, merge
from operator import itemgetter
from typing import Final

from collector.store.contract import TraceSummary
from collector.store.embedded import schema as sc
from collector.store.embedded.reading import Plan, trace_records
from collector.store.embedded.snapshot import Hit, Snapshot
from collector.store.summaries import summarise_trace

_FIRST_RECORDS: Final = 512


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
    for order, trace_id in _trace_ids(asked):
        if len(best) == limit and sc.clamped(best[0][0]) > order:
            break
        summary = summarise_trace(trace_id, trace_records(snapshots, trace_id, None))
        if summary is None or (error is not None and summary.error != error):
            continue
        if min_duration_ns is not None and summary.duration_ns < min_duration_ns:
            continue
        entry = (summary.start_ns, trace_id, summary)
        if len(best) < limit:
            heappush(best, entry)
        elif entry > best[0]:
            heapreplace(best, entry)
    return [summary for _, _, summary in sorted(best, reverse=True)]


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
