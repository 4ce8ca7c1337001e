"""Time that a service spends itself: its spans' durations without what they waited for.

Measured on a logarithmic scale against healthy runs of the same operation, for single operations and for
a whole service at once, because a starved processor slows everything a service does by a little. What
all services have in common (load, a machine that is slower today) is taken off first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from typing import Final

from msgspec import structs

from collector.diagnose.findings import EVIDENCE_MAX, Finding, evidence, instance_of, length, times
from collector.diagnose.profile import OperationProfile
from collector.diagnose.shifts import Shift, common_drift, pooled, shift_of
from collector.diagnose.significance import corrected
from collector.diagnose.visits import Operation, Visit
from collector.diagnose.window import SPANS_LOST_MIN, Window
from collector.model import Evidence
from tracing.semconv import CODE_FILE, CODE_FUNCTION, CODE_LINE

SIGNAL: Final = "self_time"
OCTAVES_MIN: Final = 0.7  # a service that is less than 1.6 times slower does not break anything

# A request is not slow because of what takes less than this share of its usual time.
SHARE_OF_TRACE_MIN: Final = 0.2


def find(window: Window) -> list[Finding]:
    """One finding for each service that spends more time in itself than healthy runs do."""
    shifts = {
        operation: shift
        for operation, seen in window.seen.operations.items()
        if (known := window.known.operations.get(operation)) and (shift := _shift(window, seen, known))
    }
    drift = common_drift(shifts.values())
    by_service: dict[str, dict[Operation, Shift]] = defaultdict(dict)
    for operation, shift in shifts.items():
        by_service[operation.service][operation] = shift
    found = []
    for service, own in by_service.items():
        finding = _finding(window, service, own, drift, len(shifts))
        if finding is not None:
            found.append(finding)
    return found


def _shift(window: Window, seen: OperationProfile, known: OperationProfile) -> Shift | None:
    if 2 * known.self_time.count < known.visits:
        return None  # calls that are usually answered: without the answer their time is not their own
    shift = shift_of(
        seen.self_time, seen.traces, known.self_time, known.traces, one_request=window.one_request
    )
    if shift is not None and window.spans_lost > SPANS_LOST_MIN:
        # A lost call's time is taken for the caller's. Runs that are seen to have lost one are not counted
        # (`Window`), but the last of several calls may be lost without a trace.
        shift = structs.replace(shift, trust=(1 - window.spans_lost) ** min(1.0, known.calls_a_visit))
    return shift


def _finding(
    window: Window, service: str, own: dict[Operation, Shift], drift: float, looked_at: int
) -> Finding | None:
    whole = pooled(own.values())
    decades = whole.decades(drift) if whole.octaves - drift >= OCTAVES_MIN else 0.0
    slower = {operation: s for operation, s in own.items() if s.octaves - drift >= OCTAVES_MIN}
    if slower:
        worst = max(slower.values(), key=lambda shift: shift.decades(drift))
        decades = max(decades, corrected(worst.decades(drift), looked_at))
    if decades <= 0:
        return None
    # The operation that costs the most, of those that are clearly slower.
    place = max(slower or own, key=lambda operation: own[operation].excess_ns(drift))
    if window.is_one_trace and own[place].excess_ns(drift) < SHARE_OF_TRACE_MIN * window.usual_duration_ns:
        return None
    known = window.known.operations[place].self_time
    visits = sorted(
        (visit for visit in window.by_operation[place] if visit.answer is None and not visit.node.inferred),
        key=lambda visit: -visit.node.self_time_ns,
    )
    slow = [visit for visit in visits if visit.node.self_time_ns > known.quantile_ns(1.0)] or visits[:1]
    if window.is_one_trace and visits[0].node.self_time_ns <= known.quantile_ns(1.0):
        return None  # so long a healthy run took, too
    typical_ns = visits[len(visits) // 2].node.self_time_ns
    return Finding(
        signal=SIGNAL,
        fault="slow",
        family="delay",
        service=service,
        decades=decades,
        summary=f"{place.name} in {service} takes {length(typical_ns)} itself, half of the healthy runs need "
        f"at most {length(known.quantile_ns(0.5))}, all at most {length(known.quantile_ns(1.0))}"
        + (_everything(service, own.values(), drift) if 1 < len(own) < 2 * len(slower) else ""),
        evidence=[
            _cite(visit, known.quantile_ns(0.5), known.quantile_ns(1.0)) for visit in slow[:EVIDENCE_MAX]
        ],
        visits=slow,
        operation=place.name,
        instance=instance_of(slow),
        location=_declared_at(slow[0]),
        refuted_by=f"healthy runs of {place.name} that take as long",
    )


def _everything(service: str, own: Collection[Shift], drift: float) -> str:
    """By how much all of a service's time has grown, if so; to be said where most operations are slower."""
    usual_ns = sum(shift.count * math.exp2(shift.healthy_mean) for shift in own)
    octaves = math.log2(1 + sum(shift.excess_ns(drift) for shift in own) / usual_ns)
    if octaves < OCTAVES_MIN:
        return ""
    return f"; all that {service} does takes {times(octaves)} as long as usual"


def _declared_at(visit: Visit) -> str | None:
    """The code that the span says it runs."""
    attributes = visit.node.record.attributes
    file, line, function = (attributes.get(key) for key in (CODE_FILE, CODE_LINE, CODE_FUNCTION))
    where = f"{file}:{line}" if file and line else file
    return " in ".join(str(part) for part in (where, function) if part) or None


def _cite(visit: Visit, median_ns: int, longest_ns: int) -> Evidence:
    record = visit.node.record
    return evidence(
        record,
        f"{length(visit.node.self_time_ns)} of it in itself; half of the healthy runs need at most "
        f"{length(median_ns)}, all at most {length(longest_ns)}",
    )
