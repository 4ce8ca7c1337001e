"""Lists of traces, a page at a time: those that have a record, and those in which spans stand as asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from collector.api import shapes, views
from collector.store.conditions import And, Condition, Range, Structure
from collector.store.contract import EVERYTHING, Place, Store, TraceSummary
from collector.store.paging import place_of_trace, write_cursor
from collector.trace.build import build_trace
from collector.trace.structure import has_structure

# Records of the chains that are built for one page: a second or two of work, after which the page ends early
# and its cursor goes on. Nothing but the chain tells how spans stand, so that a rare structure may need many.
CHAIN_RECORDS_MAX: Final = 20_000
CANDIDATES_AT_ONCE: Final = 50  # in the first round; each further one looks at twice as many
RECORDS_AT_ONCE: Final = 5_000  # of the traces that are read together


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesAsked:
    """What a trace must be as a whole, and which page is asked for."""

    start_ns: int | None  # of the matching records
    end_ns: int | None
    min_duration_ns: int | None
    error: bool | None
    limit: int
    before: Place | None


def traces_of(
    store: Store, structure: Structure, filters: Condition, asked: TracesAsked, *, trace_records_max: int
) -> shapes.TracesObject:
    """A page of the traces in which spans stand as asked, newest first.

    Args:
        structure: with one step alone, every trace with a record that matches.
        filters: what the records of every step must fulfil besides.
        trace_records_max: longer chains are looked at in part.
    """
    steps = tuple(_both(filters, step) for step in structure.steps)
    if len(steps) == 1:
        found = _found(store, steps[0], asked, asked.before, asked.limit + 1)
        more = len(found) > asked.limit
        found = found[: asked.limit]
        return _page(found, place_of_trace(found[-1]) if more else None)
    return _standing(store, Structure(steps=steps, direct=structure.direct), asked, trace_records_max)


def _standing(
    store: Store, structure: Structure, asked: TracesAsked, trace_records_max: int
) -> shapes.TracesObject:
    """Go through the traces with the rarest of the steps, and keep those whose chain has all of them."""
    rarest = min(
        structure.steps, key=lambda step: store.count(step, start_ns=asked.start_ns, end_ns=asked.end_ns)
    )
    in_time = _in_time(structure, asked)
    found: list[TraceSummary] = []
    records, place, length = 0, asked.before, CANDIDATES_AT_ONCE
    while True:
        candidates = _found(store, rarest, asked, place, length)
        for part in _parts(candidates):
            found += _with_structure(store, in_time, part, trace_records_max)
            place = place_of_trace(part[-1])
            records += _records_of(part)
            if len(found) > asked.limit:
                return _page(found[: asked.limit], place_of_trace(found[asked.limit - 1]))
            if records >= CHAIN_RECORDS_MAX:
                return _page(found, place)
        if len(candidates) < length:
            return _page(found, None)
        length *= 2


def _found(
    store: Store, condition: Condition, asked: TracesAsked, before: Place | None, limit: int
) -> list[TraceSummary]:
    return store.find_traces(
        condition,
        start_ns=asked.start_ns,
        end_ns=asked.end_ns,
        min_duration_ns=asked.min_duration_ns,
        error=asked.error,
        before=before,
        limit=limit,
    )


def _both(one: Condition, other: Condition) -> Condition:
    if one == EVERYTHING or other == EVERYTHING:
        return one if other == EVERYTHING else other
    return And((one, other))


def _in_time(structure: Structure, asked: TracesAsked) -> Structure:
    """The structure, its records within the time that is asked for."""
    if asked.start_ns is None and asked.end_ns is None:
        return structure
    window = Range("timestamp_ns", asked.start_ns, asked.end_ns, high_included=False)
    return Structure(steps=tuple(And((window, step)) for step in structure.steps), direct=structure.direct)


def _parts(candidates: Sequence[TraceSummary]) -> Iterator[list[TraceSummary]]:
    """Cut a list so that no part has many more records than may be read together."""
    part: list[TraceSummary] = []
    for summary in candidates:
        part.append(summary)
        if _records_of(part) >= RECORDS_AT_ONCE or len(part) >= CANDIDATES_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _records_of(part: Sequence[TraceSummary]) -> int:
    return sum(summary.spans + summary.logs for summary in part)


def _with_structure(
    store: Store, structure: Structure, part: Sequence[TraceSummary], records_max: int
) -> list[TraceSummary]:
    traces = store.traces([summary.trace_id for summary in part], records_max=records_max)
    return [
        summary
        for summary in part
        if has_structure(build_trace(summary.trace_id, traces.get(summary.trace_id, [])), structure)
    ]


def _page(found: Sequence[TraceSummary], place: Place | None) -> shapes.TracesObject:
    return shapes.TracesObject(
        traces=[views.summary_view(summary) for summary in found],
        cursor=None if place is None else write_cursor(place),
    )


__all__ = ["TracesAsked", "traces_of"]
