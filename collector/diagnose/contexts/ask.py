"""Asking a store where the context is lost: what is read, and how much of it at most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from collector.diagnose.contexts.losses import Evidence, context_losses
from collector.diagnose.contexts.model import ContextLoss
from collector.diagnose.sampling import Sample, sample_traces, within
from collector.model import Record, Trace, TraceStatus
from collector.store.conditions import And, Condition, Equals, Exists, Not
from collector.store.contract import EVERYTHING, Store
from collector.trace.build import build_trace

TRACES_MAX: Final = 2_000
RECORDS_MAX: Final = 100_000  # of all traces; a record takes one to two kilobytes of memory
TRACE_RECORDS_MAX: Final = 5_000  # of one trace
BEFORE_TRACES_MAX: Final = 1_000  # of those that say what is normal
BEFORE_RECORDS_MAX: Final = 50_000
LINES_MAX: Final = 10_000  # outside any trace
PAGE_LINES: Final = 1_000
SETTLE_NS: Final = 60_000_000_000  # what ended less than that ago may still come

_LOOSE: Final[Condition] = And((Equals("kind", "log"), Not(Exists("trace_id"))))

StatusOf = Callable[[Sequence[Record]], TraceStatus]


class Asked(NamedTuple):
    """The losses, and what they were found in."""

    losses: list[ContextLoss]
    traces: int
    loose_lines: int
    is_whole: bool  # nothing of the time was left out


def losses_of(
    store: Store, start_ns: int, end_ns: int, *, now_ns: int, status_of: StatusOf | None = None
) -> Asked:
    """Every place at which the context was lost in a half-open interval, measured by what was before it.

    Args:
        now_ns: this collector's clock; what is too fresh misses nothing yet.
        status_of: what the ledger knows of a trace's processes.
    """
    sample = sample_traces(
        store, EVERYTHING, start_ns, end_ns, traces_max=TRACES_MAX, records_max=RECORDS_MAX
    )
    before = store.find_traces(EVERYTHING, end_ns=start_ns, limit=BEFORE_TRACES_MAX)
    known = Sample([item.trace_id for item in within(before, BEFORE_RECORDS_MAX)] if before else [], True)
    loose = _loose(store, start_ns, end_ns)
    now = Evidence(_built(store, sample, status_of), loose)
    since_ns = min((item.start_ns for item in before), default=start_ns)
    usual = Evidence(_built(store, known, status_of), _loose(store, since_ns, start_ns))
    return Asked(
        context_losses(now, usual, settled_ns=now_ns - SETTLE_NS),
        traces=len(sample.trace_ids),
        loose_lines=len(loose),
        is_whole=sample.is_whole and len(loose) < LINES_MAX,
    )


def _built(store: Store, sample: Sample, status_of: StatusOf | None) -> list[Trace]:
    found = store.traces(sample.trace_ids, records_max=TRACE_RECORDS_MAX)
    return [
        build_trace(
            trace_id,
            records,
            status=status_of(records) if status_of is not None else None,
            records_max_hit=len(records) >= TRACE_RECORDS_MAX,
        )
        for trace_id, records in found.items()
    ]


def _loose(store: Store, start_ns: int, end_ns: int) -> list[Record]:
    """Lines outside any trace, the newest, as many as are read."""
    lines: list[Record] = []
    cursor = None
    while len(lines) < LINES_MAX:
        page = store.search(_LOOSE, start_ns=start_ns, end_ns=end_ns, limit=PAGE_LINES, cursor=cursor)
        lines += page.records
        cursor = page.cursor
        if cursor is None:
            break
    return lines
