"""Time between two services: what a caller waited that the callee did not work; a message's time in a queue.

A gap belongs to neither side. When every way into a service has become longer, the service (its network,
its queue, its starved processor) is behind it; when every way out of one has, and other callers of the
same services see nothing, it is that one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final, Literal

from collector.diagnose.findings import EVIDENCE_MAX, Finding, evidence, instance_of, length, times
from collector.diagnose.profile import gap_ns
from collector.diagnose.shifts import Shift, common_drift, pooled, shift_of
from collector.diagnose.significance import corrected
from collector.diagnose.visits import Edge, Visit
from collector.diagnose.window import Window
from collector.model import Evidence

SIGNAL: Final = "gaps"
OCTAVES_MIN: Final = 1.0  # less than twice as long is the weather of a network
# An edge takes part in a shift if it has moved by this share of the one that moved the furthest.
TAKES_PART: Final = 0.4
# So many of a caller's ways out must have become longer before the caller is behind it.
WAYS_OUT_MIN: Final = 0.6
CALLEES_MIN: Final = 2
# A request is not slow because of what takes less than this share of its usual time.
SHARE_OF_TRACE_MIN: Final = 0.2

Role = Literal["callee", "caller"]


def find(window: Window) -> list[Finding]:
    """One finding for each service that the ways into it, or out of it, have become longer at."""
    shifts = {
        edge: shift
        for edge, seen in window.seen.edges.items()
        if (known := window.known.edges.get(edge))
        and (
            shift := shift_of(seen.gap, seen.traces, known.gap, known.traces, one_request=window.one_request)
        )
    }
    if not shifts:
        return []
    drift = min(1.0, max(-1.0, common_drift(shifts.values())))
    moved = {edge: shift for edge, shift in shifts.items() if _has_moved(shift, drift)}
    if not moved:
        return []
    furthest = max(shift.octaves - drift for shift in moved.values())
    moved = {e: shift for e, shift in moved.items() if shift.octaves - drift >= TAKES_PART * furthest}
    waits = _waits(window)
    found = []
    callers = _callers_behind(shifts, moved)
    for service in dict.fromkeys([*callers, *(edge.callee for edge in moved)]):
        role: Role = "caller" if service in callers else "callee"
        edges = {e: s for e, s in shifts.items() if (e.caller if role == "caller" else e.callee) == service}
        if role == "callee":
            # What a caller explains is not also its callees'.
            edges = {e: s for e, s in edges.items() if e.caller not in callers}
        if any(edge in moved for edge in edges):
            finding = _finding(window, service, role, edges, moved, drift, waits, len(shifts))
            found += [finding] if finding is not None else []
    return found


def _has_moved(shift: Shift, drift: float) -> bool:
    return shift.octaves - drift >= OCTAVES_MIN and shift.t(drift) >= 2.0


def _callers_behind(shifts: Mapping[Edge, Shift], moved: Mapping[Edge, Shift]) -> list[str]:
    """Services that the moved edges have in common as their beginning, and not as their end."""
    out: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for edge in shifts:
        out[edge.caller][edge.callee].append(edge in moved)
    callers = []
    for caller, callees in out.items():
        longer = [callee for callee, edges in callees.items() if any(edges)]
        # A callee whose other callers wait as well is itself behind it.
        alone = [
            callee for callee in longer if not any(e.callee == callee and e.caller != caller for e in moved)
        ]
        if len(alone) >= CALLEES_MIN and len(alone) >= WAYS_OUT_MIN * len(callees):
            callers.append(caller)
    return callers


def _waits(window: Window) -> dict[Edge, list[Visit]]:
    waits: dict[Edge, list[Visit]] = defaultdict(list)
    for visit in window.visits:
        if visit.edge is not None:
            waits[visit.edge].append(visit)
    return waits


def _finding(
    window: Window,
    service: str,
    role: Role,
    edges: Mapping[Edge, Shift],
    moved: Mapping[Edge, Shift],
    drift: float,
    waits: Mapping[Edge, list[Visit]],
    ways: int,
) -> Finding | None:
    own = {edge: shift for edge, shift in edges.items() if edge in moved}
    whole = pooled(own.values())
    worst = max(own, key=lambda edge: own[edge].decades(drift))
    decades = max(whole.decades(drift), own[worst].decades(drift))
    decades *= len(own) / len(edges)  # ways that are as usual speak against it
    if window.one_request:
        # Of one request the way that was the slowest by chance is among those that were looked at; in a
        # stretch of time ways do not become longer one by one.
        decades = corrected(decades, ways)
    if window.is_one_trace and own[worst].excess_ns(drift) < SHARE_OF_TRACE_MIN * window.usual_duration_ns:
        return None
    known = window.known.edges[worst].gap
    visits = sorted(waits[worst], key=lambda visit: -gap_ns(visit))
    if window.is_one_trace and gap_ns(visits[0]) <= known.quantile_ns(1.0):
        return None  # so long a healthy one was under way, too
    typical_ns = gap_ns(visits[len(visits) // 2])
    late = [visit for visit in visits if gap_ns(visit) > known.quantile_ns(1.0)] or visits[:1]
    answer = visits[0].answer
    name = answer.name if answer else worst.name
    between = f"calls into {service}" if role == "callee" else f"calls out of {service}, whomever they reach,"
    is_queue = visits[0].node.record.span_kind == "PRODUCER"
    return Finding(
        signal=SIGNAL,
        fault="queue_delay" if is_queue else "slow_calls",
        family="delay",
        service=service,
        decades=decades,
        summary=f"{between} are under way {times(whole.octaves - drift)} as long as usual, not counting "
        f"the callee's work: {name} from {worst.caller} {length(typical_ns)}, healthy "
        f"{length(known.quantile_ns(0.5))}",
        evidence=_evidence(late, known.quantile_ns(0.99)),
        visits=late,
        operation=name,
        instance=instance_of(late) if role == "caller" else None,
        refuted_by=f"other callers of {service} that do not wait"
        if role == "callee"
        else f"other callers of the same services that wait as long as {service}",
    )


def _evidence(late: list[Visit], high_ns: int) -> list[Evidence]:
    cited = []
    for visit in late[: EVIDENCE_MAX // 2]:
        answer = visit.answer
        why = (
            f"{length(gap_ns(visit))} of it the callee did not work; healthy calls at most {length(high_ns)}"
        )
        cited.append(evidence(visit.node.record, why))
        if answer is not None:
            cited.append(evidence(answer.record, "what the callee did of it"))
    return cited
