"""What was changed just before: a deploy, a setting, a flag; told as an event, or seen as a new version.

To change something is not a fault, so this names nobody by itself: it makes whoever is found at fault
likelier when something of theirs was just changed, and is cited beside what was found.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from collector.diagnose.findings import EVIDENCE_MAX, Finding, evidence
from collector.diagnose.window import Window
from collector.model import Evidence
from tracing.semconv import SERVICE_VERSION

SIGNAL: Final = "changes"
# With what localisation adds for the change it stays below what a cause needs to be named.
CHANGED_DECADES: Final = 0.3


def find(window: Window) -> list[Finding]:
    """One finding for each service in sight of which something was changed."""
    told: dict[str, list[tuple[str, Evidence]]] = defaultdict(list)
    for change in sorted(window.changes, key=lambda change: -change.timestamp_ns):
        if change.service is not None and change.service in window.seen.service_visits:
            cited = evidence(change.record, "it was changed just before")
            told[change.service].append((change.message, cited))
    for service, version in sorted(window.new_versions):
        cited = _first_of(window, service, version)
        told[service].append((f"{service} runs version {version}, which is new", cited))
    return [
        Finding(
            signal=SIGNAL,
            fault="changed",
            family="path",
            service=service,
            decades=CHANGED_DECADES,
            summary=f"{service} was changed: {said[0][0]}",
            evidence=[cited for _, cited in said[:EVIDENCE_MAX]],
            refuted_by="the same trouble before the change",
        )
        for service, said in told.items()
    ]


def _first_of(window: Window, service: str, version: str) -> Evidence:
    """The earliest span that a version ran."""
    ran = [
        visit.node
        for visit in window.visits
        if visit.node.service == service and str(visit.node.record.resource.get(SERVICE_VERSION)) == version
    ]
    first = min(ran, key=lambda node: (node.inferred, node.record.timestamp_ns, node.record.uid))
    return evidence(first.record, f"version {version} ran it, which the healthy traces do not know")
