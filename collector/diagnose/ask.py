"""Asking a store for a root cause: which traces are meant, and which healthy ones they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from statistics import median
from typing import Final

from msgspec import structs

from collector.changes import Change, change_of, changes_condition
from collector.diagnose.baseline import Baseline
from collector.diagnose.engine import Judgement, judge_trace, judge_window
from collector.diagnose.sampling import sample_traces, within
from collector.diagnose.visits import operation_name
from collector.diagnose.window import Window
from collector.errors import NotFound
from collector.model import Measure, Record, Trace, TraceStatus, Verdict
from collector.store.conditions import And, Condition, Equals
from collector.store.contract import EVERYTHING, Store, TraceSummary
from collector.trace.build import build_trace

TRACE_RECORDS_MAX: Final = 100_000  # of the trace that is asked about
HEALTHY_TRACES_MAX: Final = 40  # more do not narrow down what is normal for one request
HEALTHY_RECORDS_MAX: Final = 5_000  # of each healthy trace
WINDOW_TRACES_MAX: Final = 2_000
WINDOW_RECORDS_MAX: Final = 100_000  # of all of them; a record takes one to two kilobytes of memory
WINDOW_HEALTHY_TRACES_MAX: Final = 2_000
# A trace this many times as long as the median of its neighbours is no measure of what is healthy.
HEALTHY_DURATION_FACTOR: Final = 4.0
CANDIDATES_FACTOR: Final = 2  # traces looked through for each that is wanted
# How far after a trace its measure is looked for, when there is too little before it.
LATER_NS: Final = (60_000_000_000, 3_600_000_000_000, 86_400_000_000_000)

# How long before the time that is asked about a change is still one "just before".
CHANGES_BEFORE_NS: Final = 1_800_000_000_000
CHANGES_MAX: Final = 100  # the newest

NOTHING_BEGAN: Final = "no trace began in this time"  # what a verdict about an empty time lacks

StatusOf = Callable[[Sequence[Record]], TraceStatus]


def root_cause_of_trace(
    store: Store,
    trace_id: str,
    *,
    status_of: StatusOf | None = None,
    healthy_traces_max: int = HEALTHY_TRACES_MAX,
) -> Verdict:
    """Name the cause of what went wrong in one trace, measured by healthy traces of its entry point.

    Args:
        status_of: what the ledger knows of a trace's processes (`Ledger.trace_status`); without it
            nobody knows whether a process was killed or only has not finished.
        healthy_traces_max: as many healthy traces are looked for, those before the trace first.
    Raises:
        NotFound: nothing of this trace is stored.
    """
    return judged_trace(store, trace_id, status_of=status_of, healthy_traces_max=healthy_traces_max).verdict


def judged_trace(
    store: Store,
    trace_id: str,
    *,
    status_of: StatusOf | None = None,
    baseline_of: Callable[[Trace], Baseline | None] | None = None,
    source: Measure = "given_baseline",
    healthy_traces_max: int = HEALTHY_TRACES_MAX,
) -> Judgement:
    """`root_cause_of_trace` with what the verdict was made from.

    Args:
        baseline_of: what is normal for a trace; by default, and where it is None, learned from healthy
            traces of the same entry point.
        source: where `baseline_of` has it from, for the verdict.
    """
    records = store.trace(trace_id, records_max=TRACE_RECORDS_MAX)
    if not records:
        raise NotFound.of_trace(trace_id)
    trace = build_trace(
        trace_id,
        records,
        status=status_of(records) if status_of else None,
        records_max_hit=len(records) >= TRACE_RECORDS_MAX,
    )
    baseline = baseline_of(trace) if baseline_of is not None else None
    if baseline is None:
        baseline, source = Baseline(), "neighbours"
        baseline.learn(healthy_traces(store, trace, traces_max=healthy_traces_max))
    changes = recorded_changes(store, trace.start_ns, trace.end_ns)
    judgement = judge_trace(trace, baseline, changes=changes)
    verdict = structs.replace(judgement.verdict, trace_id=trace_id, measured_by=source)
    return judgement._replace(verdict=verdict)


def root_cause_of_window(
    store: Store,
    start_ns: int,
    end_ns: int,
    *,
    condition: Condition = EVERYTHING,
    measure: Condition = EVERYTHING,
    baseline: Baseline | None = None,
    traces_max: int = WINDOW_TRACES_MAX,
) -> Verdict:
    """Name the cause of what is wrong in a stretch of time, measured by what came before it.

    Args:
        start_ns, end_ns: traces that began in this half-open interval are looked at.
        condition: a record of a trace has to fulfil it, for the trace to be looked at.
        measure: the same for the traces that say what is normal.
        baseline: what is normal; by default learned from the traces that began before `start_ns`.
        traces_max: as many traces are looked at, from every part of the time; a note says when there
            were more.
    """
    return judged_window(
        store,
        start_ns,
        end_ns,
        condition=condition,
        measure=measure,
        baseline=baseline,
        traces_max=traces_max,
    ).verdict


def judged_window(
    store: Store,
    start_ns: int,
    end_ns: int,
    *,
    condition: Condition = EVERYTHING,
    measure: Condition = EVERYTHING,
    baseline: Baseline | None = None,
    source: Measure = "given_baseline",
    traces_max: int = WINDOW_TRACES_MAX,
) -> Judgement:
    """`root_cause_of_window` with what the verdict was made from.

    Args:
        source: where the baseline comes from, for the verdict.
    """
    sample = sample_traces(
        store, condition, start_ns, end_ns, traces_max=traces_max, records_max=WINDOW_RECORDS_MAX
    )
    if not sample.trace_ids:
        verdict = Verdict(insufficient=NOTHING_BEGAN, start_ns=start_ns, end_ns=end_ns)
        return Judgement(verdict, [], Window([], baseline or Baseline()))
    if baseline is None:
        before = store.find_traces(measure, end_ns=start_ns, limit=WINDOW_HEALTHY_TRACES_MAX)
        baseline, source = Baseline(), "earlier_traces"
        known = within(before, WINDOW_RECORDS_MAX)
        baseline.learn(_built(store, [item.trace_id for item in known]))
    judgement = judge_window(
        _built(store, sample.trace_ids),
        baseline,
        start_ns=start_ns,
        end_ns=end_ns,
        changes=recorded_changes(store, start_ns, end_ns),
    )
    verdict = structs.replace(judgement.verdict, measured_by=source)
    if not sample.is_whole:
        note = (
            f"there is more than was looked at: {len(sample.trace_ids)} traces, from every part of this time"
        )
        verdict = structs.replace(verdict, notes=[*verdict.notes, note])
    return judgement._replace(verdict=verdict)


def recorded_changes(store: Store, start_ns: int, end_ns: int) -> list[Change]:
    """What was changed on purpose in a stretch of time and just before it, earliest first."""
    page = store.search(
        changes_condition(), start_ns=start_ns - CHANGES_BEFORE_NS, end_ns=end_ns + 1, limit=CHANGES_MAX
    )
    return [change for record in reversed(page.records) if (change := change_of(record)) is not None]


def healthy_traces(store: Store, trace: Trace, *, traces_max: int) -> list[Trace]:
    """Traces without an error that came in at the same entry point, the nearest before this one first.

    Where there are too few of them before, the nearest later ones are taken as well.
    """
    if not trace.roots:
        return []
    found = _neighbours(store, trace, traces_max)
    usual_ns = median([item.duration_ns for item in found]) if found else 0
    chosen = [item.trace_id for item in found if item.duration_ns <= HEALTHY_DURATION_FACTOR * usual_ns]
    return _built(store, chosen)


def _neighbours(store: Store, trace: Trace, traces_max: int) -> list[TraceSummary]:
    """The traces of the same entry point nearest in time, those before it first."""
    entry = trace.roots[0]
    by_service = Equals("service", entry.service)
    conditions: list[Condition] = [by_service]
    if entry.record.name:
        # The very name first; where names carry ids, whatever is the same without them.
        conditions.insert(0, And((by_service, Equals("name", entry.record.name))))

    def is_neighbour(item: TraceSummary) -> bool:
        is_same = not entry.record.name or operation_name(item.name) == operation_name(entry.record.name)
        return is_same and item.service == entry.service and item.trace_id != trace.trace_id

    found: dict[str, TraceSummary] = {}
    for condition in conditions:
        spans: list[tuple[int | None, int | None]] = [(None, trace.start_ns)]
        spans += [(trace.start_ns, trace.start_ns + length_ns) for length_ns in LATER_NS]
        for start_ns, end_ns in spans:
            if len(found) >= traces_max:
                break
            items = store.find_traces(
                condition, start_ns=start_ns, end_ns=end_ns, error=False, limit=CANDIDATES_FACTOR * traces_max
            )
            if start_ns is not None:
                items = items[::-1]  # those that came next are the nearest
            for item in items:
                if is_neighbour(item) and len(found) < traces_max:
                    found.setdefault(item.trace_id, item)
    return list(found.values())


def _built(store: Store, trace_ids: Collection[str]) -> list[Trace]:
    found = store.traces(trace_ids, records_max=HEALTHY_RECORDS_MAX)
    return [build_trace(trace_id, records) for trace_id, records in found.items()]


__all__ = [
    "NOTHING_BEGAN",
    "healthy_traces",
    "judged_trace",
    "judged_window",
    "recorded_changes",
    "root_cause_of_trace",
    "root_cause_of_window",
]
