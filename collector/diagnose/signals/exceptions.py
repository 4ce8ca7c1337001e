"""Exceptions, followed to where they were born instead of where they were noticed.

The same exception is usually recorded several times on its way up: by the span it ended, by its callers,
by whoever logs it at last. Each record is a finding at its own place; that a deeper place explains it is
for localisation to see, since it knows the chain.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from collector.diagnose.findings import EVIDENCE_MAX, Finding, evidence, instance_of, quote
from collector.diagnose.raised import Raised, raised_in
from collector.diagnose.window import Window
from collector.model import Evidence

SIGNAL: Final = "exceptions"
# An exception that healthy runs do not have is ten times as likely to be the cause as another deviation
# that is as rare: it names itself and its place.
DIRECT_DECADES: Final = 1.0


def find(window: Window) -> list[Finding]:
    """One finding for each place that an exception was born at and seen in."""
    found: dict[tuple[str, str, str], list[Raised]] = defaultdict(list)
    for visit in window.visits:
        for raised in raised_in(visit):
            found[raised.key].append(raised)
    return [_finding(window, records) for records in found.values()]


def _finding(window: Window, records: list[Raised]) -> Finding:
    first = min(records, key=lambda raised: raised.at_ns)
    visits = list({id(raised.visit): raised.visit for raised in records}.values())
    operation = first.visit.operation
    same = [visit for visit in visits if visit.operation == operation]
    known = window.known.operations.get(operation)
    healthy_visits = known.visits if known else 0
    healthy_hits = window.known.exceptions.get(first.key, 0)
    seen = window.by_operation[operation]
    decades = window.share_decades(
        len(same), len(seen), min(healthy_hits, healthy_visits), healthy_visits, rare=True
    )
    where = f" at {first.location}" if first.location else ""
    raised = f"{first.type}: {first.message}" if first.message else first.type
    return Finding(
        signal=SIGNAL,
        fault="exception",
        family="failure",
        service=operation.service,
        decades=decades + DIRECT_DECADES * min(1.0, decades),
        summary=f"{operation.service} raised {raised}{where}",
        evidence=_evidence(records),
        visits=visits,
        operation=operation.name,
        instance=instance_of(visits),
        location=first.location,
        refuted_by=f"healthy runs of {operation.name} that record the same exception"
        if not healthy_hits
        else f"it is recorded in {healthy_hits} of {healthy_visits} healthy runs too",
    )


def _evidence(records: list[Raised]) -> list[Evidence]:
    cited = {raised.record.uid: raised for raised in reversed(records)}
    ordered = sorted(cited.values(), key=lambda raised: (raised.record.kind != "log", raised.at_ns))
    return [
        evidence(
            raised.record,
            f"recorded the exception{f', born at {raised.location}' if raised.location else ''}",
            quoted=f"{quote(raised.record)} – {raised.type}: {raised.message}"
            if raised.record.kind == "span"
            else None,
        )
        for raised in ordered[:EVIDENCE_MAX]
    ]
