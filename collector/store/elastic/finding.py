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
_TRACES_AT_ONCE_MIN: Final = 20  # read whole, of those that the candidates are of


def find_traces(
    reader: Reader, plan: Plan, wanted: Callable[[TraceSummary], bool], limit: int
) -> list[TraceSummary]:
    """The newest traces, by their start, of which a record matches and the whole is wanted.

    Matching records are gone through from the newest. A trace starts no later than any of its records, so
    that the answer is complete once what is left to look at is older than the last start in it.
    """
    found: list[TraceSummary] = []
    seen: set[str] = set()
    before: Place | None = None
    while True:
        records = reader.page(plan, _CANDIDATES_MAX, before)
        newest_ns: dict[str, int] = {}  # of the matching records of each trace that is new here
        for one in records:
            if one.trace_id and one.trace_id not in seen:
                newest_ns.setdefault(one.trace_id, one.timestamp_ns)
        seen.update(newest_ns)
        fresh = list(newest_ns)
        at_once = max(limit, _TRACES_AT_ONCE_MIN)
        for at in range(0, len(fresh), at_once):
            if _is_complete(found, limit, newest_ns[fresh[at]]):
                return found
            some = fresh[at : at + at_once]
            for trace_id, members in zip(some, reader.traces(some, _RECORDS_MAX), strict=True):
                summary = summarise_trace(trace_id, members)
                if summary is not None and wanted(summary):
                    found.append(summary)
            found = nlargest(limit, found, key=place_of_trace)
        if len(records) < _CANDIDATES_MAX:
            return found
        before = place_of(records[-1])
        if _is_complete(found, limit, before[0]):
            return found


def _is_complete(found: list[TraceSummary], limit: int, next_ns: int) -> bool:
    """Whether what is left, of which no record is newer, cannot be among the newest."""
    return len(found) == limit and (not found or found[-1].start_ns > next_ns)
