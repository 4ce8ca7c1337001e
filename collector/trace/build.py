"""Records -> call chain. Pure; never recurses, so that a chain of any depth is built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from collector.model import Gap, Record, SpanNode, Trace, TraceStatus
from collector.trace.folding import fold_siblings
from collector.trace.gaps import loss_gaps, silent_callees, unfinished
from collector.trace.relations import relate
from collector.trace.skew import clock_skews
from collector.trace.times import set_critical, set_self_times, set_times

Completeness = Literal["complete", "open", "gaps", "unknown"]


def build_trace(
    trace_id: str,
    records: Iterable[Record],
    *,
    status: TraceStatus | None = None,
    records_max_hit: bool = False,
) -> Trace:
    """Build the call chain of one trace from whatever arrived of it, in any order.

    Args:
        trace_id: 32 hex.
        records: of this trace, of every kind; one that comes twice counts once.
        status: what the ledger knows of the processes; None: nothing, the trace is `unknown` at best.
        records_max_hit: the records were cut at a limit, so that what is missing proves nothing.
    Returns:
        The chain. Every relation in it is one that a record states; a trace without records has no
        roots.
    """
    distinct = {record.uid: record for record in records}.values()
    # Whatever order they arrived in; as a store gives them, they are sorted already.
    in_order = sorted(distinct, key=lambda record: (record.timestamp_ns, record.uid))
    relations = relate(trace_id, in_order)
    downward = _downward(relations.roots)
    set_times(downward[::-1], clock_skews(relations.nodes, relations.parents))
    relations.roots.sort(key=lambda node: (node.start_ns, node.span_id))
    set_self_times(downward)
    set_critical(relations.roots)
    fold_siblings(downward[::-1])
    still_open = unfinished(downward, status)
    gaps = [
        *relations.gaps,
        *still_open,
        *silent_callees(downward),
        *loss_gaps(in_order),
        *(status.gaps if status else ()),
    ]
    completeness, open_since_ns = _completeness(gaps, downward, status)
    return Trace(
        trace_id=trace_id,
        roots=relations.roots,
        stray_logs=sorted(relations.stray_logs, key=lambda log: (log.timestamp_ns, log.uid)),
        gaps=gaps,
        completeness=completeness,
        open_since_ns=open_since_ns,
        records=sum(record.kind in ("log", "span") for record in in_order),
        truncated=records_max_hit,
    )


def _downward(roots: Iterable[SpanNode]) -> list[SpanNode]:
    """Every node, parents before their children; sets the depth on the way."""
    order = list(roots)
    for node in order:  # grows while it is walked
        for child in node.children:
            child.depth = node.depth + 1
            order.append(child)
    return order


def _completeness(
    gaps: list[Gap], nodes: list[SpanNode], status: TraceStatus | None
) -> tuple[Completeness, int | None]:
    """Whether more is to come (`open`), will never come (`gaps`), or nobody can tell (`unknown`)."""
    running = [node.start_ns for node in nodes if not node.finished and node.process_ended is None]
    if status is not None and status.open_since_ns is not None:
        running.append(status.open_since_ns)
    if running:
        return "open", min(running)
    if any(gap.kind != "duplicate_span" for gap in gaps):
        return "gaps", None
    return ("unknown" if status is None or status.foreign else "complete"), None
