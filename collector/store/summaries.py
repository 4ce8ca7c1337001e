"""What lists say of a trace, a service, an operation and a call: pure folds over records.

Every store answers with these, the one over the records themselves, the other over counts it
took from its index, so that they cannot differ.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from collector.model import Record
from collector.store.contract import Bucket, Edge, OperationSummary, ServiceSummary, TraceSummary
from collector.store.durations import bucket_of, percentile_ns
from collector.store.paging import place_of


def summarise_trace(trace_id: str, records: Sequence[Record]) -> TraceSummary | None:
    """One line about a trace; `None` when it has no record that counts.

    Args:
        records: all of them, of any kind, in any order.
    """
    counted = [record for record in records if record.kind in ("log", "span")]
    if not counted:
        return None
    spans = [record for record in records if record.kind in ("span", "span_start")]
    stored = {span.span_id for span in spans}
    roots = [span for span in spans if span.parent_span_id not in stored]
    root = min(roots or spans or counted, key=place_of)
    start_ns = min(record.timestamp_ns for record in counted)
    return TraceSummary(
        trace_id=trace_id,
        service=root.service,
        name=root.name or root.message or "",
        start_ns=start_ns,
        duration_ns=max(record.end_ns for record in counted) - start_ns,
        error=any(record.is_error for record in counted),
        spans=sum(record.kind == "span" for record in counted),
        logs=sum(record.kind == "log" for record in counted),
    )


@dataclass(slots=True)
class Tally:
    """Counts of one service or operation, ready to be added to."""

    spans: int = 0
    logs: int = 0
    errors: int = 0
    operations: set[str] = field(default_factory=set)
    durations: Counter[int] = field(default_factory=Counter)  # spans by bucket

    def add(self, other: Tally) -> None:
        """Count what the other has counted, too."""
        self.spans += other.spans
        self.logs += other.logs
        self.errors += other.errors
        self.operations |= other.operations
        self.durations.update(other.durations)


def tally_records(records: Iterable[Record]) -> dict[tuple[str, str | None], Tally]:
    """Counts by `(service, span name)`; the name of a log is `None`."""
    tallies: dict[tuple[str, str | None], Tally] = defaultdict(Tally)
    for record in records:
        if record.kind == "log":
            tally = tallies[record.service, None]
            tally.logs += 1
        elif record.kind == "span":
            tally = tallies[record.service, record.name or ""]
            tally.spans += 1
            tally.durations[bucket_of(record.duration_ns or 0)] += 1
        else:
            continue
        tally.errors += record.is_error
    return tallies


def service_summaries(tallies: Mapping[tuple[str, str | None], Tally]) -> list[ServiceSummary]:
    """Fold counts by service and operation into one line a service, by name."""
    services: dict[str, Tally] = defaultdict(Tally)
    for (service, name), tally in tallies.items():
        into = services[service]
        into.add(tally)
        if name is not None:
            into.operations.add(name)
    return [
        ServiceSummary(
            service=service,
            spans=tally.spans,
            logs=tally.logs,
            errors=tally.errors,
            operations=len(tally.operations),
            duration_p50_ns=percentile_ns(tally.durations, 0.50),
            duration_p95_ns=percentile_ns(tally.durations, 0.95),
        )
        for service, tally in sorted(services.items())
    ]


def operation_summaries(
    service: str, tallies: Mapping[tuple[str, str | None], Tally]
) -> list[OperationSummary]:
    """One line for each operation of a service, by name."""
    return [
        OperationSummary(
            service=service,
            name=name,
            spans=tally.spans,
            errors=tally.errors,
            duration_p50_ns=percentile_ns(tally.durations, 0.50) or 0,
            duration_p95_ns=percentile_ns(tally.durations, 0.95) or 0,
            duration_p99_ns=percentile_ns(tally.durations, 0.99) or 0,
        )
        for (owner, name), tally in sorted(tallies.items(), key=lambda item: item[0][1] or "")
        if owner == service and name is not None
    ]


def caller_of(callee: str, parents: Collection[str]) -> str | None:
    """Which service called, of those that recorded the parent span; `None`: it stayed in the service.

    More than one is a broken id; then the first by name, so that the answer does not change.
    """
    return None if not parents or callee in parents else min(parents)


def edges_from(calls: Mapping[tuple[str, str], tuple[int, int]]) -> list[Edge]:
    """Counted calls `(caller, callee) -> (calls, errors)` as a sorted list."""
    return [
        Edge(caller=caller, callee=callee, calls=counts[0], errors=counts[1])
        for (caller, callee), counts in sorted(calls.items())
    ]


def top_buckets(counts: Mapping[str, int], limit: int) -> list[Bucket]:
    """The most frequent values, by count, then value."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [Bucket(value=value, count=count) for value, count in ordered[:limit]]
