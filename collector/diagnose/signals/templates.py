"""Log lines that healthy runs do not write, or write less often: whatever their level, by their templates.

A warning is a program's own word that something is not as it should be; any other line only says that a
run took another way, which programs have more of than a short baseline has seen. Errors have a signal of
their own, and lines that are missing show among the steps.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from collector.diagnose.findings import EVIDENCE_MAX, Finding, evidence, instance_of
from collector.diagnose.visits import LOG, Operation, Step, Visit, place
from collector.diagnose.window import Window

SIGNAL: Final = "templates"
SEVERITY_WARN: Final = 13  # OpenTelemetry's scale
# What a warning is worth of an error that is as rare, and what another line is; the latter by itself
# raises no alarm.
WARNING_WEIGHT: Final = 0.6
LINE_WEIGHT: Final = 0.15
LINE_DECADES_MAX: Final = 0.8


def find(window: Window) -> list[Finding]:
    """One finding for each line below an error that more runs of an operation write than healthy ones do."""
    written: dict[tuple[Operation, str], list[tuple[Visit, Step]]] = defaultdict(list)
    for operation, visits in window.by_operation.items():
        known = window.known.operations.get(operation)
        if known is None:
            continue
        # What most healthy runs write is not worth counting: it cannot be much more.
        usual = {token for token, count in known.takes.items() if 2 * count >= known.visits}
        for visit in visits:
            if not visit.node.logs or LOG not in visit.lanes:
                continue
            for step in visit.steps:
                if step.token not in usual and step.is_line and not step.record.is_error:
                    written[operation, step.token].append((visit, step))
    found = (_judge(window, *key, lines) for key, lines in written.items())
    return [finding for finding in found if finding is not None]


def _judge(
    window: Window, operation: Operation, token: str, lines: list[tuple[Visit, Step]]
) -> Finding | None:
    known = window.known.operations[operation]
    visits = list({id(visit): visit for visit, _ in lines}.values())
    healthy = known.takes.get(token, 0)
    decades = window.share_decades(
        len(visits), len(window.by_operation[operation]), healthy, known.visits, rare=True
    )
    first = min((step for _, step in lines), key=lambda step: (step.at_ns, step.record.uid))
    is_warning = first.record.severity_number >= SEVERITY_WARN
    weighed = WARNING_WEIGHT * decades if is_warning else min(LINE_WEIGHT * decades, LINE_DECADES_MAX)
    if weighed <= 0:
        return None
    template = first.template
    text = template.text if template is not None else first.record.message or ""
    kind = "a warning" if is_warning else "a line"
    return Finding(
        signal=SIGNAL,
        fault="warning" if is_warning else "changed_path",
        family="failure" if is_warning else "path",
        service=operation.service,
        decades=weighed,
        summary=f"{operation.name} in {operation.service} logs {kind} that healthy runs "
        f"{'log less often' if healthy else 'do not log'}: {text}",
        evidence=[
            evidence(step.record, f"{kind} of {len(visits)} runs, {healthy} of {known.visits} healthy ones")
            for _, step in lines[:EVIDENCE_MAX]
        ],
        visits=visits,
        operation=operation.name,
        place=operation.name,
        instance=instance_of(visits),
        location=place(first.record),
        template=text,
        refuted_by=f"healthy runs of {operation.name} that log the same line as often",
    )
