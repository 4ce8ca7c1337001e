"""Calls that are made more often than healthy runs ever make them: retries, and loops that should not be.

Whether the caller asks too much or the callee does not answer well shows below: failures of the repeated
calls explain the repetition, for localisation to see.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from collector.diagnose.findings import EVIDENCE_MAX, Finding, evidence, instance_of
from collector.diagnose.profile import OperationProfile
from collector.diagnose.visits import Operation, Step, Visit, name_of
from collector.diagnose.window import Window

SIGNAL: Final = "repeats"
# A call counts as repeated from this multiple of the most that a healthy run was seen to make.
TIMES_MIN: Final = 2


def find(window: Window) -> list[Finding]:
    """One finding for each operation and call of which runs make too many."""
    found = []
    for operation, visits in window.by_operation.items():
        known = window.known.operations.get(operation)
        if known is None:
            continue
        too_many: dict[str, list[tuple[Visit, list[Step]]]] = {}
        for visit in visits:
            if len(visit.node.children) < TIMES_MIN:
                continue
            counts = Counter(step.token for step in visit.steps if step.node is not None)
            for token, count in counts.items():
                if known.most.get(token) and count >= TIMES_MIN * known.most[token]:
                    calls = [step for step in visit.steps if step.token == token]
                    too_many.setdefault(token, []).append((visit, calls))
        for token, runs in too_many.items():
            finding = _judge(window, operation, known, token, runs, len(visits))
            if finding is not None:
                found.append(finding)
    return found


def _judge(
    window: Window,
    operation: Operation,
    known: OperationProfile,
    token: str,
    runs: list[tuple[Visit, list[Step]]],
    passed: int,
) -> Finding | None:
    decades = window.share_decades(len(runs), passed, 0, known.visits)
    if decades <= 0:
        return None
    visit, calls = max(runs, key=lambda run: len(run[1]))
    failed = [step for step in calls if step.record.is_error]
    name = name_of(token)
    visits = [run for run, _ in runs]
    return Finding(
        signal=SIGNAL,
        fault="retries" if 2 * len(failed) > len(calls) else "more_calls",
        family="failure",
        service=operation.service,
        decades=decades,
        summary=f'{operation.name} in {operation.service} calls "{name}" {len(calls)} times'
        + (f", {len(failed)} of them in vain" if failed else "")
        + f"; healthy runs at most {known.most[token]} times",
        evidence=[
            evidence(visit.node.record, f"made {len(calls)} of these calls"),
            *(evidence(step.record, "one of them") for step in calls[: EVIDENCE_MAX - 1]),
        ],
        visits=visits,
        operation=operation.name,
        place=operation.name,
        instance=instance_of(visits),
        location=f"{operation.name} … {name}",
        refuted_by=f"healthy runs of {operation.name} that call it as often",
    )
