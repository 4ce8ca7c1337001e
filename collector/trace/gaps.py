"""What is known to be missing from a chain, and how we know."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from collector.model import Gap, Record, SpanNode, TraceStatus
from tracing.semconv import SERVER_ADDRESS


def unfinished(nodes: Iterable[SpanNode], status: TraceStatus | None) -> list[Gap]:
    """Spans that started and never ended, with how their process ended when the ledger knows it."""
    gaps = []
    for node in nodes:
        if node.finished:
            continue
        spool_id = node.record.uid.partition("-")[0]
        node.process_ended = status.ended.get(spool_id) if status else None
        fate = f"; its process ended: {node.process_ended}" if node.process_ended else ""
        gaps.append(
            Gap(
                kind="unfinished",
                message=f"{node.name} in {node.service} started and never ended{fate}",
                span_id=node.span_id,
                service=node.service,
            )
        )
    return gaps


def silent_callees(nodes: Sequence[SpanNode]) -> list[Gap]:
    """Client spans without a server's span, where the same call of this trace has one.

    Within one trace that is proof enough that the other side sends spans at all.
    """
    answered: dict[tuple[object, ...], Counter[str]] = defaultdict(Counter)
    for node in nodes:
        if node.record.span_kind == "CLIENT":
            for child in node.children:
                if child.service != node.service:
                    answered[_call(node)][child.service] += 1
    gaps = []
    for node in nodes:
        if node.record.span_kind == "CLIENT" and node.finished and not node.children:
            callees = answered.get(_call(node))
            if callees is not None:
                callee = max(sorted(callees), key=callees.__getitem__)
                gaps.append(
                    Gap(
                        kind="silent_callee",
                        message=f"{node.name} in {node.service} called {callee}, which sent nothing",
                        span_id=node.span_id,
                        service=callee,
                    )
                )
    return gaps


def loss_gaps(records: Iterable[Record]) -> list[Gap]:
    """Records that a process says it could not write."""
    gaps = []
    for record in records:
        if record.kind == "loss":
            loss = record.loss or {}
            count = loss.get("count")
            gaps.append(
                Gap(
                    kind="lost",
                    message=f"{record.service} lost {count if count is not None else 'some'} records: "
                    f"{loss.get('reason', 'no reason given')}",
                    service=record.service,
                    count=count if isinstance(count, int) else None,
                )
            )
    return gaps


def _call(node: SpanNode) -> tuple[object, ...]:
    attributes = node.record.attributes
    return (node.service, node.name, attributes.get(SERVER_ADDRESS), attributes.get("server.port"))
