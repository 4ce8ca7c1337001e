"""Errors that somebody wrote down: log lines of level ERROR, and spans whose status is error.

Programs log errors while they are healthy too; what counts is an error that healthy runs of the same
operation do not have, or have less often.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from collector.diagnose.findings import EVIDENCE_MAX, Finding, evidence, instance_of
from collector.diagnose.visits import Operation, Step, Visit, place
from collector.diagnose.window import Window
from collector.model import Record
from tracing.semconv import HTTP_RESPONSE_STATUS_CODE, RPC_GRPC_STATUS_CODE

SIGNAL: Final = "errors"


def find(window: Window) -> list[Finding]:
    """One finding for each error template of an operation, and for each operation whose spans fail."""
    return [*_templates(window), *_statuses(window)]


def _templates(window: Window) -> list[Finding]:
    lines: dict[tuple[Operation, str], list[tuple[Visit, Step]]] = defaultdict(list)
    for visit in window.visits:
        for step in visit.errors:
            if step.template is not None:
                lines[visit.operation, step.template.template_id].append((visit, step))
    found = []
    for (operation, identity), written in lines.items():
        visits = list({id(visit): visit for visit, _ in written}.values())
        first = min((step for _, step in written), key=lambda step: step.at_ns)
        assert first.template is not None
        known = window.known.operations.get(operation)
        healthy_visits = known.visits if known else 0
        logged = window.known.errors_logged.get((operation.service, identity))
        healthy_hits = min(logged.traces if logged else 0, healthy_visits)
        decades = window.share_decades(
            len(visits),
            len(window.by_operation.get(operation, visits)),
            healthy_hits,
            healthy_visits,
            rare=True,
        )
        if decades <= 0:
            continue
        text = first.template.text
        found.append(
            Finding(
                signal=SIGNAL,
                fault="error",
                family="failure",
                service=operation.service,
                decades=decades,
                summary=f"{operation.service} logs an error that healthy runs "
                f"{'log less often' if healthy_hits else 'do not log'}: {text}",
                evidence=[
                    evidence(step.record, "an error line that the healthy traces do not have")
                    for _, step in written[:EVIDENCE_MAX]
                ],
                visits=visits,
                operation=operation.name,
                place=operation.name,
                instance=instance_of(visits),
                location=_region(visits[0], first),
                template=text,
                refuted_by=f"healthy runs of {operation.name} that log the same line",
            )
        )
    return found


def _region(visit: Visit, error: Step) -> str | None:
    """Where the error was logged, and what the run had logged last before: it went wrong in between."""
    where = place(error.record)
    last = None
    for step in visit.steps:
        if step is error or step.at_ns > error.at_ns:
            break
        last = place(step.record) if step.is_line else last
    return f"{last} … {where}" if last and where and last != where else where


def _statuses(window: Window) -> list[Finding]:
    found = []
    for operation, visits in window.by_operation.items():
        failed = [visit for visit in visits if visit.failed]
        if not failed:
            continue
        known = window.known.operations.get(operation)
        healthy_errors, healthy_visits = (known.errors, known.visits) if known else (0, 0)
        decades = window.share_decades(len(failed), len(visits), healthy_errors, healthy_visits, rare=True)
        if decades <= 0:
            continue
        said = _said(failed[0].node.record)
        found.append(
            Finding(
                signal=SIGNAL,
                fault="error",
                family="failure",
                service=operation.service,
                decades=decades,
                summary=f"{operation.name} in {operation.service} ends in an error{said}",
                evidence=[
                    evidence(visit.node.record, "ended with the status error")
                    for visit in failed[:EVIDENCE_MAX]
                ],
                visits=failed,
                operation=operation.name,
                place=operation.name,
                instance=instance_of(failed),
                refuted_by=f"healthy runs of {operation.name} that end in the same error",
            )
        )
    return found


def _said(record: Record) -> str:
    """What a failed span says about it: its status and codes."""
    said = [record.status.message] if record.status and record.status.message else []
    for key, name in ((HTTP_RESPONSE_STATUS_CODE, "HTTP"), (RPC_GRPC_STATUS_CODE, "gRPC")):
        if record.attributes.get(key):
            said.append(f"{name} {record.attributes[key]}")
    return f" ({', '.join(said)})" if said else ""
