"""How a verdict was come by: what each signal saw, in figures, beside what healthy traces have. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, TypeVar

import msgspec

from collector.diagnose.engine import HEALTHY_TRACES_MIN, SIGNALS, Judgement
from collector.diagnose.findings import Finding
from collector.diagnose.localisation import EXPLAINED_WEIGHT
from collector.diagnose.profile import EdgeProfile, EntryProfile, OperationProfile, Profile
from collector.diagnose.signals import gaps
from collector.diagnose.spread import Spread
from collector.diagnose.visits import name_of
from collector.model import Evidence

NOTICED_MAX: Final = 20  # the strongest; what is weaker decides nothing
DISTRIBUTIONS_MAX: Final = 3

Item = TypeVar("Item")
Unit = Literal["ns", "share", "count", "each"]  # each: so many in one run


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity, here and in healthy traces; None: there is nothing to take it of."""

    name: str
    unit: Unit
    window: float | None
    baseline: float | None


class Noticed(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a signal found."""

    rank: int  # among all that was found, by what it counts
    signal: str
    fault: str
    service: str
    operation: str | None
    decades: float  # surprise against the baseline
    counts: float  # the same after localisation: what another finding explains counts little
    summary: str
    explained_by: str | None
    figures: list[Figure]
    evidence: list[Evidence]


class SignalReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one signal came to."""

    signal: str
    found: int
    decades: float | None  # of the strongest that it found
    rank: int | None  # of that
    said: str  # the strongest's summary, or what seeing nothing means, or why it did not look


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A range of lengths of time, and how many observations lie in it."""

    from_ns: int
    to_ns: int
    window: int
    baseline: int


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """Lengths of time, here and in healthy traces."""

    what: str
    window_count: int
    baseline_count: int
    window_median_ns: int
    baseline_median_ns: int
    buckets: list[Bucket]  # rising, an eighth of an octave each, without gaps


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was looked at."""

    signals: list[SignalReport]
    noticed: list[Noticed]
    distributions: list[Distribution]


def explain(judgement: Judgement) -> Explanation:
    """Say what a judgement was made from."""
    window, seen = judgement.window, judgement.window.seen_in_full()
    found = [finding for suspect in judgement.suspects for finding in suspect.findings]
    ranked = sorted(found, key=lambda finding: -_counts(finding))
    noticed = [
        Noticed(
            rank=rank,
            signal=finding.signal,
            fault=finding.fault,
            service=finding.service,
            operation=finding.operation,
            decades=round(finding.decades, 2),
            counts=round(_counts(finding), 2),
            summary=finding.summary,
            explained_by=finding.explained_by.summary if finding.explained_by is not None else None,
            figures=figures_of(finding, seen, window.known),
            evidence=finding.evidence,
        )
        for rank, finding in enumerate(ranked[:NOTICED_MAX], start=1)
    ]
    return Explanation(
        signals=[_report(name, ranked, window.known.traces) for name in SIGNALS],
        noticed=noticed,
        distributions=_distributions(ranked, seen, window.known),
    )


def figures_of(finding: Finding, seen: Profile, known: Profile) -> list[Figure]:
    """What is measured of the place that a finding names, beside the same of healthy traces."""
    here, healthy = (_operations(profile, finding) for profile in (seen, known))
    figures = [_figure("runs", "count", here, healthy, lambda items: sum(item.visits for item in items))]
    shares: Mapping[str, Callable[[OperationProfile], int]] = {
        "runs that end in an error": lambda item: item.errors,
        "runs that never end": lambda item: item.unfinished,
    }
    figures += [_figure(name, "share", here, healthy, _share(count)) for name, count in shares.items()]
    if finding.missing is not None:
        step = name_of(finding.missing)
        figures.append(_figure(f"runs with the step {step}", "share", here, healthy, _share(_taking(step))))
    edges, healthy_edges = (_edges(profile, finding) for profile in (seen, known))
    if finding.signal == gaps.SIGNAL and edges:
        figures.append(_figure("under way, half of the calls", "ns", edges, healthy_edges, _gap(0.5)))
        figures.append(_figure("under way, 99 % of the calls", "ns", edges, healthy_edges, _gap(0.99)))
    else:
        figures.append(_figure("time in itself, half of the runs", "ns", here, healthy, _self_time(0.5)))
        figures.append(_figure("time in itself, 99 % of the runs", "ns", here, healthy, _self_time(0.99)))
    lines = [_error_lines(profile, finding.service) for profile in (seen, known)]
    if any(lines):
        figures.append(
            Figure(name="error lines of the service", unit="each", window=lines[0], baseline=lines[1])
        )
    return [figure for figure in figures if figure.window or figure.baseline]


def distribution(what: str, seen: Spread, known: Spread) -> Distribution:
    """Two distributions over the same ranges of lengths."""
    numbers = sorted({*seen.eighths, *known.eighths})
    between = range(numbers[0], numbers[-1] + 1) if numbers else ()
    return Distribution(
        what=what,
        window_count=seen.count,
        baseline_count=known.count,
        window_median_ns=seen.quantile_ns(0.5),
        baseline_median_ns=known.quantile_ns(0.5),
        buckets=[
            Bucket(
                from_ns=round(2 ** ((number - 0.5) / 8)),
                to_ns=round(2 ** ((number + 0.5) / 8)),
                window=seen.eighths.get(number, 0),
                baseline=known.eighths.get(number, 0),
            )
            for number in between
        ],
    )


def _counts(finding: Finding) -> float:
    return finding.decades * (EXPLAINED_WEIGHT if finding.explained_by is not None else 1.0)


def _report(name: str, ranked: list[Finding], healthy: int) -> SignalReport:
    own = [(rank, finding) for rank, finding in enumerate(ranked, start=1) if finding.signal == name]
    rank, strongest = own[0] if own else (None, None)
    nothing = SIGNALS[name].nothing_seen
    if SIGNALS[name].needs_baseline and healthy < HEALTHY_TRACES_MIN:
        nothing = f"not looked at: {healthy} healthy traces"
    return SignalReport(
        signal=name,
        found=len(own),
        decades=round(strongest.decades, 2) if strongest is not None else None,
        rank=rank,
        said=strongest.summary if strongest is not None else nothing,
    )


def _distributions(ranked: list[Finding], seen: Profile, known: Profile) -> list[Distribution]:
    """Of the first findings' places the time that they take, and of the entry points the whole time."""
    found: dict[str, Distribution] = {}
    for finding in ranked[: DISTRIBUTIONS_MAX - 1]:
        edges = _edges(seen, finding)
        if finding.signal == gaps.SIGNAL and edges:
            what = f"calls of {finding.operation} under way, without the callee's work"
            pair = [_merged(edge.gap for edge in _edges(profile, finding)) for profile in (seen, known)]
        else:
            what = f"{_place(finding)} in {finding.service}, time in itself"
            pair = [
                _merged(item.self_time for item in _operations(profile, finding)) for profile in (seen, known)
            ]
        if all(spread.count for spread in pair):
            found.setdefault(what, distribution(what, *pair))
    busiest = sorted(seen.entries.items(), key=lambda item: (-item[1].traces, item[0]))
    for entry, profile in busiest[:DISTRIBUTIONS_MAX]:
        healthy = known.entries.get(entry, EntryProfile())
        what = f"{entry.name} in {entry.service}, the whole request"
        found.setdefault(what, distribution(what, profile.duration, healthy.duration))
    return list(found.values())[:DISTRIBUTIONS_MAX]


def _operations(profile: Profile, finding: Finding) -> list[OperationProfile]:
    """Those that a finding is about."""
    name = _place(finding)
    return [
        item
        for operation, item in profile.operations.items()
        if operation.service == finding.service and operation.name == name
    ]


def _place(finding: Finding) -> str | None:
    """The operation whose runs are measured: of what is missing, that which should have done it."""
    return (finding.place if finding.missing else None) or finding.operation


def _edges(profile: Profile, finding: Finding) -> list[EdgeProfile]:
    return [
        item
        for edge, item in profile.edges.items()
        if edge.name == finding.operation and finding.service in (edge.caller, edge.callee)
    ]


def _error_lines(profile: Profile, service: str) -> float | None:
    visits = profile.service_visits.get(service, 0)
    lines = sum(logged.lines for (name, _), logged in profile.errors_logged.items() if name == service)
    return round(lines / visits, 4) if visits else None


def _figure(
    name: str,
    unit: Unit,
    here: list[Item],
    healthy: list[Item],
    measure: Callable[[list[Item]], float | None],
) -> Figure:
    return Figure(
        name=name,
        unit=unit,
        window=measure(here) if here else None,
        baseline=measure(healthy) if healthy else None,
    )


def _share(count: Callable[[OperationProfile], int]) -> Callable[[list[OperationProfile]], float | None]:
    def measure(items: list[OperationProfile]) -> float | None:
        visits = sum(item.visits for item in items)
        return round(sum(count(item) for item in items) / visits, 4) if visits else None

    return measure


def _taking(name: str) -> Callable[[OperationProfile], int]:
    def taking(item: OperationProfile) -> int:
        return max((count for token, count in item.takes.items() if name_of(token) == name), default=0)

    return taking


def _self_time(share: float) -> Callable[[list[OperationProfile]], float | None]:
    return lambda items: _merged(item.self_time for item in items).quantile_ns(share) or None


def _gap(share: float) -> Callable[[list[EdgeProfile]], float | None]:
    return lambda items: _merged(item.gap for item in items).quantile_ns(share) or None


def _merged(spreads: Iterable[Spread]) -> Spread:
    whole = Spread()
    for spread in spreads:
        whole.merge(spread)
    return whole
