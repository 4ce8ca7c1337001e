"""One minute: a fair sample of its traces by entry point, and what is not as usual about each. Reads only."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from collector.changes import Change
from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import judge_window
from collector.diagnose.visits import operation_name
from collector.diagnose.window import SPANS_LOST_MIN
from collector.model import Cause, Record, Trace, TraceStatus
from collector.store.contract import MINUTE_NS, Store, TraceSummary
from collector.trace.build import build_trace

TRACES_LISTED_MAX: Final = 5_000  # the newest of a minute; a busier one is sampled from its end
TRACES_READ_MAX: Final = 500  # they decide what a look costs: about a second of one processor
ENTRIES_MAX: Final = 50  # the busiest
ENTRY_TRACES_MIN: Final = 5  # fewer requests of an entry point say nothing about its minute
RECORDS_MAX: Final = 1_000  # of each trace
PIECES_MAX: Final = 120  # of a stretch that is learned from
# A week of minutes without a false alarm: rarer than once in ten thousand, for each entry point.
DECADES_SURE: Final = 4.0
# What would be a verdict if somebody asked. It is enough for the second minute in a row, and for an episode
# that has begun to go on: of 54 recorded faults 51 are sure in their first minute, and all are doubted.
DECADES_DOUBTED: Final = 3.0

StatusOf = Callable[[Sequence[Record]], TraceStatus]


class Entry(NamedTuple):
    """Where requests come in."""

    service: str
    operation: str

    def __str__(self) -> str:
        return f"{self.service} {self.operation}"


class Sample(msgspec.Struct, kw_only=True):
    """What is looked at of a stretch of time."""

    traces: dict[Entry, list[Trace]] = {}
    listed: int = 0  # traces that began in it, as far as they were listed
    entries_left_out: int = 0

    @property
    def all_traces(self) -> list[Trace]:
        """The traces of all entry points."""
        return [trace for traces in self.traces.values() for trace in traces]


class Suspicion(msgspec.Struct, kw_only=True):
    """A service at which something is not as usual, and through which entry points that shows."""

    cause: Cause  # as the entry point with the strongest case has it
    decades: float
    entries: list[Entry]
    is_sure: bool  # by itself; else it takes a second minute


class Look(msgspec.Struct, kw_only=True):
    """What a look at a minute came to."""

    suspicions: list[Suspicion] = []
    is_whole: bool = True  # False: telemetry is missing, so nothing is to be learned from it


def sample(store: Store, start_ns: int, end_ns: int, *, status_of: StatusOf | None = None) -> Sample:
    """Read traces that began in a stretch of time, evenly spread over it, of each entry point its share.

    Raises:
        StoreFailed: the store cannot answer.
    """
    listed = store.find_traces(start_ns=start_ns, end_ns=end_ns, limit=TRACES_LISTED_MAX)
    by_entry: dict[Entry, list[TraceSummary]] = defaultdict(list)
    for item in listed:
        if item.spans:
            by_entry[Entry(item.service, operation_name(item.name))].append(item)
    busiest = sorted(by_entry.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    kept = busiest[:ENTRIES_MAX]
    share = TRACES_READ_MAX // max(1, len(kept))
    chosen = {item.trace_id: entry for entry, items in kept for item in _spread(items, share)}
    found = Sample(listed=len(listed), entries_left_out=len(busiest) - len(kept))
    for trace_id, records in store.traces(list(chosen), records_max=RECORDS_MAX).items():
        status = status_of(records) if status_of is not None else None
        trace = build_trace(trace_id, records, status=status, records_max_hit=len(records) >= RECORDS_MAX)
        found.traces.setdefault(chosen[trace_id], []).append(trace)
    return found


def look(
    taken: Sample, baseline: Baseline, *, start_ns: int, end_ns: int, changes: Sequence[Change] = ()
) -> Look:
    """Measure each entry point by the baseline.

    Args:
        changes: what was changed on purpose, in the stretch and just before it.
    """
    entries = {entry: traces for entry, traces in taken.traces.items() if len(traces) >= ENTRY_TRACES_MIN}
    looked_at = math.log10(max(1, len(entries)))  # Bonferroni
    found: dict[str, Suspicion] = {}
    is_whole = True
    for entry, traces in sorted(entries.items()):
        judgement = judge_window(traces, baseline, start_ns=start_ns, end_ns=end_ns, changes=changes)
        window = judgement.window
        is_whole = is_whole and not window.logs_lost and window.spans_lost <= SPANS_LOST_MIN
        causes = {cause.service: cause for cause in judgement.verdict.causes}
        if not judgement.suspects or not causes:
            continue
        first = judgement.suspects[0]
        if first.decades < DECADES_DOUBTED + looked_at or first.service not in causes:
            continue
        suspicion = Suspicion(
            cause=causes[first.service],
            decades=first.decades,
            entries=[entry],
            is_sure=first.decades >= DECADES_SURE + looked_at,
        )
        known = found.setdefault(first.service, suspicion)
        if known is not suspicion:
            known.entries.append(entry)
            known.is_sure = known.is_sure or suspicion.is_sure
            if suspicion.decades > known.decades:
                known.cause, known.decades = suspicion.cause, suspicion.decades
    ranked = sorted(found.values(), key=lambda item: (-item.decades, item.cause.service))
    return Look(suspicions=ranked, is_whole=is_whole)


def learn_from(store: Store, start_ns: int, end_ns: int) -> Baseline:
    """Learn what is normal from a stretch of time that is known to be fault-free.

    It is read in pieces of a minute, or longer ones where there would be too many; a busy piece is sampled.
    """
    baseline = Baseline()
    piece_ns = max(MINUTE_NS, -(-(end_ns - start_ns) // PIECES_MAX))
    for begin_ns in range(start_ns, end_ns, piece_ns):
        taken = sample(store, begin_ns, min(begin_ns + piece_ns, end_ns))
        if traces := taken.all_traces:
            baseline.learn(traces)
    return baseline


def _spread(items: Sequence[TraceSummary], wanted: int) -> list[TraceSummary]:
    """So many of the items, evenly spread over their order."""
    if len(items) <= wanted:
        return list(items)
    return [items[number * len(items) // wanted] for number in range(wanted)]
