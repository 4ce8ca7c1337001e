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


def silent_services(seen: Profile, healthy: Profile) -> set[str]:
    """Services that log while they are healthy, and of which there is not a line."""
    silent = set()
    for service, visits in seen.service_visits.items():
        usual_visits = healthy.service_visits.get(service, 0)
        if usual_visits and not seen.service_lines.get(service):
            expected = healthy.service_lines.get(service, 0) * visits / usual_visits
            if expected >= LINES_EXPECTED_MIN:
                silent.add(service)
    return silent


def _missing_share(profile: Profile) -> float:
    named = profile.parents_there + profile.parents_missing
    return profile.parents_missing / named if named else 0.0
