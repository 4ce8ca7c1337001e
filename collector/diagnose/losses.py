"""Telemetry that was lost, so that its absence is not taken for a fault.

A span that others name as their parent and that never came was lost, and where some were lost, others
were lost too of which nobody speaks. A service that logs when it is healthy and not a single line here
has lost its logs, or it has stopped; lines alone cannot say which. Where most services write fewer lines
a run than they do when they are healthy, lines were lost on the way: no fault is everywhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

from collector.diagnose.profile import Profile
from collector.diagnose.visits import CALL, LOG, Operation, Visit

# So many lines must be expected of a service before their absence means anything.
LINES_EXPECTED_MIN: Final = 5.0
# An operation logs if so many of its healthy runs do.
LOGGING_SHARE: Final = 0.7
SILENT_SERVICES_MIN: Final = 2


def spans_lost(seen: Profile, healthy: Profile) -> float:
    """Which share of the spans is lost in a window, beyond what is lost while all is healthy; 0..1."""
    kept, usually_kept = 1 - _missing_share(seen), 1 - _missing_share(healthy)
    return max(0.0, 1 - kept / usually_kept) if usually_kept else 0.0


def silent_services(seen: Profile, healthy: Profile) -> tuple[set[str], bool]:
    """Services that log while they are healthy, and of which there is not a line.

    Where that is true of most services, it is taken to be true of those too of which few lines are
    expected: what brings the lines has failed, not the programs.

    Returns:
        The services, and whether it is true of most.
    """
    expected = {
        service: healthy.service_lines[service] * visits / healthy.service_visits[service]
        for service, visits in seen.service_visits.items()
        if healthy.service_lines.get(service)
    }
    without = {service for service in expected if not seen.service_lines.get(service)}
    silent = {service for service in without if expected[service] >= LINES_EXPECTED_MIN}
    are_most = 2 * len(silent) > len(expected)
    return (without if are_most else silent), are_most


def lines_lost(visits: Iterable[Visit], healthy: Profile) -> float:
    """Which share of the log lines is lost in a window, judged by the service in the middle; 0..1.

    Args:
        visits: those whose lines are already left out of account do not count.
    """
    usual = {operation: known.lines_a_visit for operation, known in healthy.operations.items()}
    expected: dict[str, float] = defaultdict(float)
    written: Counter[str] = Counter()
    for visit in visits:
        if visit.operation in usual and LOG in visit.lanes and not visit.node.inferred:
            expected[visit.operation.service] += usual[visit.operation]
            written[visit.operation.service] += len(visit.node.logs)
    kept = [written[service] / lines for service, lines in expected.items() if lines >= LINES_EXPECTED_MIN]
    return max(0.0, 1 - median(kept)) if len(kept) >= SILENT_SERVICES_MIN else 0.0


def doubt_lost_lines(visits: Sequence[Visit], healthy: Profile, *, learning: bool = False) -> None:
    """Leave the lines of a trace out of account where most of its services that should log are silent.

    A fault silences the place where it is; what silences half of a chain is between the programs and us,
    or it is the edge of a recording.

    Args:
        visits: of whole traces; their `lanes` are changed.
        learning: these visits themselves say what is usual, beside what is known.
    """
    seen: Counter[Operation] = Counter()
    logging: Counter[Operation] = Counter()
    for operation, profile in healthy.operations.items():
        seen[operation], logging[operation] = profile.visits, profile.logging
    if learning:
        for visit in visits:
            seen[visit.operation] += 1
            logging[visit.operation] += bool(visit.node.logs)
    usual = {operation for operation, count in logging.items() if count >= LOGGING_SHARE * seen[operation]}
    by_trace: dict[int, list[Visit]] = defaultdict(list)
    for visit in visits:
        by_trace[id(visit.trace)].append(visit)
    for chain in by_trace.values():
        expected = {visit.node.service for visit in chain if visit.operation in usual}
        silent = expected - {visit.node.service for visit in chain if visit.node.logs}
        if len(silent) >= SILENT_SERVICES_MIN and 2 * len(silent) >= len(expected):
            for visit in chain:
                visit.lanes = tuple(lane for lane in visit.lanes if lane == CALL)


def _missing_share(profile: Profile) -> float:
    named = profile.parents_there + profile.parents_missing
    return profile.parents_missing / named if named else 0.0
