"""From findings to places: a service that only suffers from what it called is not where it began.

A failure goes up the chain, to whoever waited for an answer; so a failure above another one in the same
traces is explained by it. A delay and a death are measured where they happen; only a delay that is no
longer than raising an exception takes is explained by one that the same runs raised. What is left
unexplained is where to look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import structs

from collector.diagnose.findings import NEARLY_ALL, Finding
from collector.diagnose.signals import exceptions, self_time
from collector.diagnose.significance import corrected
from collector.diagnose.visits import Visit, callee_of, name_of
from collector.diagnose.window import Window

# A failure is explained when it lies above others in at least this share of the runs it shows in.
EXPLAINED_SHARE: Final = 0.5
# What an explained finding still counts: the explanation may be wrong.
EXPLAINED_WEIGHT: Final = 0.1
# A second, independent finding at a place makes it likelier; two weak ones do not make a strong one.
SUPPORT_WEIGHT: Final = 0.1
# The weakest finding that can explain another one, by itself and as a share of the other.
EXPLAINS_DECADES_MIN: Final = 1.0
EXPLAINS_SHARE: Final = 0.25
# What making an exception, its stack trace and its log lines takes at most: a longer delay is one.
RAISING_NS_MAX: Final = 5_000_000
# Where only one service asks, the answer is thrice less likely to be at fault than who stops after it.
ONE_CALLER_DECADES: Final = 0.95
# What missing lines count of a service whose lines may just have been lost.
SILENCE_WEIGHT: Final = 0.1

# A service that was just changed is three times as likely to be at fault as one that was not.
CHANGE_DECADES: Final = 0.5

# Of a finding (by identity), the other findings it can have spread from: at which of its visits.
Spread = dict[int, dict[int, set[int]]]


class Suspect(msgspec.Struct, kw_only=True):
    """A service, and what speaks against it, strongest first."""

    service: str
    decades: float
    findings: list[Finding]


def localise(findings: Sequence[Finding], window: Window) -> list[Suspect]:
    """Group findings by service, victims behind culprits; most likely first."""
    _doubt_silence(findings, window)
    spread = _spread([finding for finding in findings if finding.family in ("failure", "death")])
    _explain(findings, spread)
    _explain_short_delays(findings, window)
    findings = [*findings, *_blame_answers(findings, window)]
    by_service: dict[str, list[tuple[float, Finding]]] = defaultdict(list)
    for finding in findings:
        weight = EXPLAINED_WEIGHT if finding.explained_by is not None else 1.0
        by_service[finding.service].append((weight * finding.decades, finding))
    changed = window.changed_services
    suspects = []
    for service, own in by_service.items():
        own.sort(key=lambda pair: -pair[0])
        best = own[0][0]
        signals = {finding.signal: decades for decades, finding in reversed(own)}
        support = sum(signals.values()) - signals[own[0][1].signal]
        suspects.append(
            Suspect(
                service=service,
                decades=best
                + SUPPORT_WEIGHT * min(support, best)
                + (CHANGE_DECADES * min(1.0, best) if service in changed else 0.0),
                findings=[finding for _, finding in own],
            )
        )
    return sorted(suspects, key=lambda suspect: -suspect.decades)


def strongest(parts: Iterable[Sequence[Suspect]]) -> list[Suspect]:
    """Of each service the strongest of several looks at it, less what looking so often is worth."""
    looks = list(parts)
    best: dict[str, Suspect] = {}
    for suspects in looks:
        for suspect in suspects:
            left = corrected(suspect.decades, len(looks))
            if suspect.service not in best or left > best[suspect.service].decades:
                best[suspect.service] = structs.replace(suspect, decades=left)
    return sorted(best.values(), key=lambda suspect: -suspect.decades)


def _explain(findings: Sequence[Finding], spread: Spread) -> None:
    """Set `explained_by` where a failure lies above another one, or follows it in the same run."""
    failures = [finding for finding in findings if finding.family in ("failure", "death")]
    index = {id(finding): finding for finding in failures}
    for upper in failures:
        if upper.family == "death":
            continue
        candidates = [
            (len(hits), index[identity].decades, index[identity])
            for identity, hits in spread[id(upper)].items()
            if index[identity].decades >= max(EXPLAINS_DECADES_MIN, EXPLAINS_SHARE * upper.decades)
            and len(hits) >= EXPLAINED_SHARE * len(upper.visits)
        ]
        if candidates:
            upper.explained_by = max(candidates, key=lambda candidate: candidate[:2])[2]


def _explain_short_delays(findings: Sequence[Finding], window: Window) -> None:
    """Set `explained_by` where runs are longer by what it takes to raise the exception that they raised."""
    raised = [
        finding
        for finding in findings
        if finding.signal == exceptions.SIGNAL and finding.decades >= EXPLAINS_DECADES_MIN
    ]
    for delay in findings if raised else ():
        if delay.signal != self_time.SIGNAL or _longest_excess_ns(delay, window) > RAISING_NS_MAX:
            continue
        slow = {id(visit) for visit in delay.visits}
        candidates = [
            finding
            for finding in raised
            if finding.service == delay.service
            and finding.decades >= EXPLAINS_SHARE * delay.decades
            and len(slow & {id(visit) for visit in finding.visits}) >= NEARLY_ALL * len(slow)
        ]
        if candidates:
            delay.explained_by = max(candidates, key=lambda finding: finding.decades)


def _longest_excess_ns(delay: Finding, window: Window) -> int:
    """By how much the slowest of a delay's runs is longer in itself than half of the healthy ones."""
    operations = window.known.operations
    return max(
        visit.node.self_time_ns - operations[visit.operation].self_time.quantile_ns(0.5)
        for visit in delay.visits
    )


def _doubt_silence(findings: Sequence[Finding], window: Window) -> None:
    """Lines that are missing where all are count only if something else failed there.

    Something else is another failure of the same operation, or a caller that could not go on after its
    answer. What is doubted explains nothing either; and where nobody's lines arrive, all is doubted.
    """
    failed: set[tuple[str, str | None]] = set()
    for finding in findings:
        if finding.family == "failure" and finding.decades >= EXPLAINS_DECADES_MIN:
            if not finding.from_silence:
                failed.add((finding.service, finding.place))
            callee = callee_of(finding.after_call or "")
            if callee:
                failed.add((callee, None))
    for finding in findings:
        known = {(finding.service, finding.place), (finding.service, None)}
        if finding.from_silence and (window.logs_lost or not failed & known):
            finding.decades *= SILENCE_WEIGHT
            finding.family = "path"


def _spread(failures: Sequence[Finding]) -> Spread:
    """Which visits of a finding (by identity) each other finding can have spread to."""
    at: dict[int, list[Finding]] = defaultdict(list)
    in_run: dict[int, list[tuple[Finding, Visit]]] = defaultdict(list)
    for finding in failures:
        for visit in finding.visits:
            at[id(visit)].append(finding)
            in_run[id(_entry(visit))].append((finding, visit))
    spread: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for lower in failures:
        first_end_ns: dict[int, int] = {}
        for visit in lower.visits:
            # What is held against another service than ran the span has spread to the span itself.
            reached = [] if visit.node.service == lower.service else [visit]
            for above in (*reached, *visit.ancestors()):
                for upper in at.get(id(above), ()):
                    if upper is not lower and (above is not visit or upper.service != lower.service):
                        spread[id(upper)][id(lower)].add(id(above))
                if above.node.service != lower.service:
                    run = id(_entry(above))
                    end_ns = visit.node.end_ns
                    first_end_ns[run] = min(first_end_ns.get(run, end_ns), end_ns)
        for run, end_ns in first_end_ns.items():
            for upper, visit in in_run.get(run, ()):
                if upper is not lower and visit.node.start_ns >= end_ns:
                    spread[id(upper)][id(lower)].add(id(visit))
    return spread


def _entry(visit: Visit) -> Visit:
    """The visit by which a service was entered on the way to this one."""
    while visit.parent is not None and visit.parent.node.service == visit.node.service:
        visit = visit.parent
    return visit


def _blame_answers(findings: Sequence[Finding], window: Window) -> list[Finding]:
    """Find answers that nobody who asked could go on with, and hold them against who gave them.

    A caller that stops after an answer may be broken itself. When every service that makes this call
    stops after it, and there are several, it is the answer. When there is only one, it may be either.
    Whose span never arrived is no caller: nobody knows how it went on.
    """
    stopped: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        is_own = finding.family == "failure" and finding.explained_by is None
        if finding.after_call and is_own and finding.decades >= EXPLAINS_DECADES_MIN:
            stopped[finding.after_call].append(finding)
    callers: dict[str, set[str]] = {token: set() for token in stopped}
    for visit in window.visits if stopped else ():
        for step in visit.steps if not visit.node.inferred else ():
            if step.token in callers:
                callers[step.token].add(visit.operation.service)
    blamed = []
    for token, stops in stopped.items():
        if callers[token] != {finding.service for finding in stops}:
            continue  # who else asks goes on with the answer
        is_proven = len(callers[token]) >= 2
        callee, name = callee_of(token), name_of(token)
        if callee is None:
            continue
        strongest = max(stops, key=lambda finding: finding.decades)
        bad = Finding(
            signal=strongest.signal,
            fault="bad_answer",
            family="failure",
            service=callee,
            decades=strongest.decades if is_proven else max(0.0, strongest.decades - ONE_CALLER_DECADES),
            summary=f"{'every' if is_proven else 'the only'} caller of {name} in {callee} stops after its "
            f"answer: {', '.join(sorted(callers[token]))}",
            evidence=[item for finding in stops for item in finding.evidence[:2]],
            visits=[],
            operation=name,
            location=strongest.location,
            refuted_by=f"a caller of {name} that goes on as usual after its answer",
        )
        blamed.append(bad)
        for finding in stops if is_proven else ():
            finding.explained_by = bad
    return blamed
