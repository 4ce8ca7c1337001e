"""From findings to places: a service that only suffers from what it called is not where it began.

A failure goes up the chain, to whoever waited for an answer; so a failure above another one in the same
traces is explained by it. A delay and a death are measured where they happen. What is left unexplained
is where to look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import msgspec

from collector.diagnose.findings import Finding
from collector.diagnose.visits import Visit

# A failure is explained when it lies above others in at least this share of the runs it shows in.
EXPLAINED_SHARE: Final = 0.5
# What an explained finding still counts: the explanation may be wrong.
EXPLAINED_WEIGHT: Final = 0.1
# A second, independent finding at a place makes it likelier; two weak ones do not make a strong one.
SUPPORT_WEIGHT: Final = 0.1
# The weakest finding that can explain another one.
EXPLAINS_DECADES_MIN: Final = 1.0


class Suspect(msgspec.Struct, kw_only=True):
    """A service, and what speaks against it, strongest first."""

    service: str
    decades: float
    findings: list[Finding]


def localise(findings: Sequence[Finding]) -> list[Suspect]:
    """Group findings by service, victims behind culprits; most likely first."""
    _explain(findings)
    by_service: dict[str, list[tuple[float, Finding]]] = defaultdict(list)
    for finding in findings:
        weight = EXPLAINED_WEIGHT if finding.explained_by is not None else 1.0
        by_service[finding.service].append((weight * finding.decades, finding))
    suspects = []
    for service, own in by_service.items():
        own.sort(key=lambda pair: (-pair[0], pair[1].signal, pair[1].operation or ""))
        best = own[0][0]
        signals = {finding.signal: decades for decades, finding in reversed(own)}
        support = sum(signals.values()) - signals[own[0][1].signal]
        suspects.append(
            Suspect(
                service=service,
                decades=best + SUPPORT_WEIGHT * min(support, best),
                findings=[finding for _, finding in own],
            )
        )
    return sorted(suspects, key=lambda suspect: (-suspect.decades, suspect.service))


def _explain(findings: Sequence[Finding]) -> None:
    failures = [f for f in findings if f.family in ("failure", "death")]
    at: dict[int, list[Finding]] = defaultdict(list)
    for finding in failures:
        for visit in finding.visits:
            at[id(visit)].append(finding)
    below: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    index = {id(finding): finding for finding in failures}
    for lower in failures:
        if lower.decades < EXPLAINS_DECADES_MIN:
            continue
        for visit in lower.visits:
            for above in visit.ancestors():
                for upper in at.get(id(above), ()):
                    below[id(upper)][id(lower)].add(id(above))
    for upper in failures:
        if upper.family == "death":
            continue
        best, best_hits = None, 0
        for identity, hits in below[id(upper)].items():
            lower = index[identity]
            if lower is not upper and len(hits) > best_hits:
                best, best_hits = lower, len(hits)
        if best is not None and best_hits >= EXPLAINED_SHARE * len(upper.visits):
            upper.explained_by = best


def visits_above(visits: Sequence[Visit]) -> set[int]:
    """Identities of every visit above these."""
    return {id(above) for visit in visits for above in visit.ancestors()}
