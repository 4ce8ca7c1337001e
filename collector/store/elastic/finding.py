"""Lists of traces: which ones have a record that matches, newest first by their start."""

from __future__ import annotations

from collections.abc import Callable
from heapq import nlargest
from typing import Final

from collector.store.contract import Place, TraceSummary
from collector.store.elastic.reading import Plan, Reader
from collector.store.paging import place_of, place_of_trace
from collector.store.summaries import summarise_trace

_RECORDS_MAX: Final = 10**9  # a summary is of the whole trace
_CANDIDATES_MAX: Final = 500  # matching records looked at in one go


def find_traces(
    reader: Reader, plan: Plan, wanted: Callable[[TraceSummary], bool], limit: int
) -> list[TraceSummary]:
    """The newest traces, by their start, of which a record matches and the whole is wanted.

    Matching records are gone through from the newest. A trace starts no later than any of its records, so
    that the answer is complete once the records are older than the last start in it.
    """
    found: list[TraceSummary] = []
    seen: set[str] = set()
    before: Place | None = None
    while True:
        records = reader.page(plan, _CANDIDATES_MAX, before)
        fresh = list(
            dict.fromkeys(one.trace_id for one in records if one.trace_id and one.trace_id not in seen)
        )
        seen.update(fresh)
        for trace_id, members in zip(fresh, reader.traces(fresh, _RECORDS_MAX), strict=True):
            summary = summarise_trace(trace_id, members)
            if summary is not None and wanted(summary):
                found.append(summary)
        found = nlargest(limit, found, key=place_of_trace)
        if len(records) < _CANDIDATES_MAX:
            return found
        before = place_of(records[-1])
        if len(found) == limit and (not found or found[-1].start_ns > before[0]):
            return found
