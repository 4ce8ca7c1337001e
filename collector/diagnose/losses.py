"""Telemetry that was lost, so that its absence is not taken for a fault.

A span that others name as their parent and that never came was lost, and where some were lost, others
were lost too of which nobody speaks. A service that logs when it is healthy and not a single line here
has lost its logs, or it has stopped; lines alone cannot say which.
"""

from __future__ import annotations

from typing import Final

from collector.diagnose.baseline import Profile

# So many lines must be expected of a service before their absence means anything.
LINES_EXPECTED_MIN: Final = 5.0


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


def _missing_share(profile: Profile) -> float:
    named = profile.parents_there + profile.parents_missing
    return profile.parents_missing / named if named else 0.0
