"""Values of the model -> the objects of `shapes`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import UNSET

from collector.api import shapes
from collector.api.explain_shapes import evidence_view, explanation_view
from collector.api.shapes import JsonObject
from collector.diagnose.explain import Explanation
from collector.errors import CollectorError
from collector.model import Cause, Record, SpanNode, Trace, Verdict, resource_key
from collector.receive.lines import line_fields
from collector.store.contract import StoreStats, TraceSummary
from tracing.line import format_timestamp

_STORE_FIGURES: Final = (
    "records", "logs", "spans", "span_starts", "losses", "partitions",
    "damaged_partitions", "damaged_records", "bytes", "durable_seq",
)  # fmt: skip


def time_text(timestamp_ns: int | None) -> str | None:
    """RFC 3339 of epoch nanoseconds, `None` of `None`."""
    return None if timestamp_ns is None else format_timestamp(timestamp_ns)


def record_view(record: Record) -> shapes.RecordObject:
    """A record that stands alone, its resource with it."""
    return shapes.RecordObject(**_record_keys(record), resource=record.resource or UNSET)


def trace_view(trace: Trace) -> shapes.TraceObject:
    """The chain as a flat list, so that neither a reader nor a writer ever recurses."""
    resources = _Resources()
    start_ns = trace.start_ns
    nodes = [_node_view(node, start_ns, resources) for node in trace.walk()]
    stray = [_log_view(log, start_ns, 0, resources) for log in trace.stray_logs]
    first = trace.roots[0] if trace.roots else None
    return shapes.TraceObject(
        trace_id=trace.trace_id,
        service=first.service if first else None,
        name=first.name if first else None,
        start=format_timestamp(start_ns),
        duration_ns=trace.duration_ns,
        error=trace.has_error,
        completeness=trace.completeness,
        open_since=time_text(trace.open_since_ns),
        truncated=trace.truncated,
        records=trace.records,
        spans=sum(not node.inferred for node in nodes),
        logs=sum(len(node.logs) for node in nodes) + len(stray),
        services=trace.services or list(dict.fromkeys(log.service for log in trace.stray_logs)),
        gaps=[
            shapes.GapObject(
                kind=gap.kind,
                message=gap.message,
                span_id=gap.span_id,
                service=gap.service,
                count=gap.count,
            )
            for gap in trace.gaps
        ],
        resources=resources.listed,
        nodes=nodes,
        stray_logs=stray,
    )


def summary_view(summary: TraceSummary) -> shapes.TraceSummaryObject:
    """One line of a list of traces."""
    return shapes.TraceSummaryObject(
        trace_id=summary.trace_id,
        service=summary.service,
        name=summary.name,
        start=format_timestamp(summary.start_ns),
        duration_ns=summary.duration_ns,
        error=summary.error,
        spans=summary.spans,
        logs=summary.logs,
    )


def verdict_view(verdict: Verdict, explanation: Explanation | None = None) -> shapes.VerdictObject:
    """A verdict with times as people read them, and how it was come by."""
    return shapes.VerdictObject(
        trace_id=verdict.trace_id,
        start=time_text(verdict.start_ns),
        end=time_text(verdict.end_ns),
        causes=[_cause_view(cause) for cause in verdict.causes],
        services=verdict.services,
        insufficient=verdict.insufficient,
        normal=verdict.normal,
        notes=verdict.notes,
        traces_compared=verdict.traces_compared,
        measured_by=verdict.measured_by,
        explanation=explanation_view(explanation) if explanation is not None else UNSET,
    )


def stats_view(
    stats: StoreStats | CollectorError,
    *,
    intake: JsonObject | None,
    wal: JsonObject | None,
    indexing: JsonObject | None,
) -> shapes.StatsObject:
    """The store's counts, or why it has none to give, beside the counters of what fills it."""
    if isinstance(stats, CollectorError):
        away, known = str(stats), {}
    elif stats.away is not None:
        away, known = stats.away, {"durable_seq": stats.durable_seq}
    else:
        away, known = None, msgspec.structs.asdict(stats)
    return shapes.StatsObject(
        store_error=away,
        **{name: known.get(name) for name in _STORE_FIGURES},
        oldest=time_text(known.get("oldest_ns")),
        newest=time_text(known.get("newest_ns")),
        intake=intake,
        wal=wal,
        indexing=indexing,
    )


def spool_view(spool: Mapping[str, Any]) -> shapes.SpoolObject:
    """One sender as the ledger has it."""
    return shapes.SpoolObject(
        spool_id=spool["spool_id"],
        service=spool.get("service", ""),
        instance=spool.get("instance"),
        host=spool.get("host"),
        pid=spool.get("pid"),
        parent=spool.get("parent"),
        start=spool.get("start", 0),
        mark=spool.get("mark", 0),
        lines=spool.get("lines", 0),
        missing=[_hole_view(hole) for hole in spool.get("missing", [])],
        losses=[_hole_view(hole) for hole in spool.get("losses", [])],
        refused=spool.get("refused", {}),
        ended=spool.get("ended"),
        last_written=_known_time(spool.get("last_written_ns")),
        first_received=_known_time(spool.get("first_received_ns")),
        last_received=_known_time(spool.get("last_received_ns")),
    )


def _hole_view(hole: Mapping[str, Any]) -> shapes.HoleObject:
    return shapes.HoleObject(
        start=hole["start"],
        end=hole["end"],
        after=_known_time(hole.get("after_ns")),
        before=_known_time(hole.get("before_ns")),
        reason=hole.get("reason"),
        count=hole.get("count"),
    )


def _known_time(timestamp_ns: int | None) -> str | None:
    """The ledger writes 0 for a time that it does not know."""
    return format_timestamp(timestamp_ns) if timestamp_ns else None


class _Resources:
    """The distinct resources of a trace, each by the place where it first stood."""

    def __init__(self) -> None:
        self.listed: list[JsonObject] = []
        self._by_identity: dict[int, int] = {}  # records of a process mostly share one dictionary
        self._by_key: dict[tuple[tuple[str, str], ...], int] = {}

    def index(self, resource: JsonObject) -> int:
        known = self._by_identity.get(id(resource))
        if known is None:
            known = self._by_key.setdefault(resource_key(resource), len(self.listed))
            if known == len(self.listed):
                self.listed.append(resource)
            self._by_identity[id(resource)] = known
        return known


def _node_view(node: SpanNode, trace_start_ns: int, resources: _Resources) -> shapes.NodeObject:
    record = node.record
    keys = _record_keys(record)
    return shapes.NodeObject(
        uid=record.uid,
        span_id=node.span_id,
        parent_span_id=record.parent_span_id,
        depth=node.depth,
        service=node.service,
        name=node.name,
        span_kind=record.span_kind,
        start=format_timestamp(node.start_ns),
        raw_start=format_timestamp(record.timestamp_ns),
        offset_ns=node.start_ns - trace_start_ns,
        duration_ns=node.duration_ns,
        skew_ns=node.skew_ns,
        skew_bound_ns=node.skew_bound_ns,
        self_time_ns=node.self_time_ns,
        critical_ns=node.critical_ns,
        siblings_folded=node.siblings_folded,
        finished=node.finished,
        process_ended=node.process_ended,
        inferred=node.inferred,
        error=record.is_error,
        status=keys.get("status", {"code": "UNSET"}),
        logger=record.logger,
        attributes=record.attributes,
        exception=keys.get("exception"),
        events=keys.get("events", []),
        links=keys.get("links", []),
        resource_index=resources.index(record.resource),
        logs=[_log_view(log, trace_start_ns, node.skew_ns, resources) for log in node.logs],
    )


def _log_view(log: Record, trace_start_ns: int, skew_ns: int, resources: _Resources) -> shapes.LogObject:
    return shapes.LogObject(
        **_record_keys(log),
        offset_ns=log.timestamp_ns + skew_ns - trace_start_ns,
        resource_index=resources.index(log.resource),
    )


def _record_keys(record: Record) -> dict[str, Any]:
    """The keys of a record line that have a value, the time as text."""
    keys = {key: value for key, value in line_fields(record).items() if value is not None}
    keys["timestamp"] = format_timestamp(record.timestamp_ns)
    return {"uid": record.uid, **keys}


def _cause_view(cause: Cause) -> shapes.CauseObject:
    return shapes.CauseObject(
        rank=cause.rank,
        service=cause.service,
        instance=cause.instance,
        operation=cause.operation,
        fault=cause.fault,
        location=cause.location,
        template=cause.template,
        summary=cause.summary,
        confidence=cause.confidence,
        signals=cause.signals,
        evidence=[evidence_view(item) for item in cause.evidence],
        refuted_by=cause.refuted_by,
    )


def same_fields(value: msgspec.Struct, shape: type[Any]) -> Any:
    """A shape whose fields are those of a value of the contract, one to one."""
    return shape(**msgspec.structs.asdict(value))
