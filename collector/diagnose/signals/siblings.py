"""One instance against its siblings: the same operations at the same time, in another process.

What is new to the whole service is told by the baseline; what only one of several instances does needs
none, because its siblings are the measure: they have the same code, the same load and the same hour. Machines
differ, so that this alone raises no alarm; it says which instance, and makes a service likelier whose
trouble is confined to one.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from collector.diagnose.findings import EVIDENCE_MAX, Finding, evidence, length
from collector.diagnose.shifts import shift_of
from collector.diagnose.significance import corrected, share_decades
from collector.diagnose.spread import Spread
from collector.diagnose.visits import Operation, Visit
from collector.diagnose.window import Window

SIGNAL: Final = "siblings"
RUNS_MIN: Final = 8  # of one instance: fewer are no measure
OCTAVES_MIN: Final = 1.0
DECADES_MAX: Final = 2.0  # below what a window needs to name a cause

ByInstance = dict[str, list[Visit]]


def find(window: Window) -> list[Finding]:
    """One finding for each instance that fails more often, or is slower, than the others of its service."""
    compared: list[tuple[Operation, str, list[Visit], list[Visit]]] = []
    for operation, visits in window.by_operation.items():
        runs: ByInstance = defaultdict(list)
        for visit in visits:
            instance = visit.node.record.instance
            if instance and not visit.node.inferred:
                runs[instance].append(visit)
        if len(runs) < 2:
            continue
        for instance, own in runs.items():
            others = [visit for name, theirs in runs.items() if name != instance for visit in theirs]
            if min(len(own), len(others)) >= RUNS_MIN:
                compared.append((operation, instance, own, others))
    best: dict[tuple[str, str], Finding] = {}
    for operation, instance, own, others in compared:
        for finding in (_failing(operation, instance, own, others), _slow(operation, instance, own, others)):
            if finding is None:
                continue
            finding.decades = min(DECADES_MAX, corrected(finding.decades, len(compared)))
            known = best.get((operation.service, instance))
            if finding.decades > (known.decades if known else 0.0):
                best[operation.service, instance] = finding
    return list(best.values())


def _failing(operation: Operation, instance: str, own: list[Visit], others: list[Visit]) -> Finding | None:
    failed = [visit for visit in own if _fails(visit)]
    elsewhere = sum(map(_fails, others))
    decades = share_decades(len(failed), len(own), elsewhere, len(others), rare=True)
    if decades <= 0:
        return None
    said = f"{len(failed)} of its {len(own)} runs, {elsewhere} of {len(others)} of the others"
    return _finding(
        operation,
        instance,
        failed,
        decades,
        fault="error",
        summary=f"{operation.name} fails in one instance of {operation.service}, {instance}: {said}",
        why="failed in this instance",
    )


def _slow(operation: Operation, instance: str, own: list[Visit], others: list[Visit]) -> Finding | None:
    shift = shift_of(_spread(own), _traces(own), _spread(others), _traces(others))
    if shift is None or shift.octaves < OCTAVES_MIN:
        return None
    slowest = sorted(own, key=lambda visit: -visit.node.self_time_ns)
    typical_ns = slowest[len(slowest) // 2].node.self_time_ns
    usual_ns = sorted(visit.node.self_time_ns for visit in others)[len(others) // 2]
    return _finding(
        operation,
        instance,
        slowest,
        shift.decades(),
        fault="slow",
        summary=f"{operation.name} takes {length(typical_ns)} itself in one instance of {operation.service}, "
        f"{instance}, and {length(usual_ns)} in the others",
        why=f"ran in this instance; half of the runs in the others need at most {length(usual_ns)}",
    )


def _finding(
    operation: Operation,
    instance: str,
    visits: list[Visit],
    decades: float,
    *,
    fault: str,
    summary: str,
    why: str,
) -> Finding:
    return Finding(
        signal=SIGNAL,
        fault=fault,
        family="path",
        service=operation.service,
        decades=decades,
        summary=summary,
        evidence=[evidence(visit.node.record, why) for visit in visits[:EVIDENCE_MAX]],
        visits=visits,
        operation=operation.name,
        instance=instance,
        refuted_by=f"runs of {operation.name} in another instance that do the same",
    )


def _fails(visit: Visit) -> bool:
    """Whether the run itself failed; what it called may have failed everywhere."""
    return visit.failed or bool(visit.errors)


def _spread(visits: list[Visit]) -> Spread:
    spread = Spread()
    for visit in visits:
        spread.add(visit.node.self_time_ns, visit.node.start_ns)
    return spread


def _traces(visits: list[Visit]) -> int:
    return len({visit.trace.trace_id for visit in visits})
