"""The engine: a window and a baseline in, a verdict out. Deterministic; no model, no network, no clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import structs

from collector.changes import Change
from collector.diagnose.baseline import Baseline
from collector.diagnose.findings import Finding
from collector.diagnose.localisation import Suspect, localise, strongest
from collector.diagnose.signals import (
    changes,
    death,
    errors,
    exceptions,
    gaps,
    repeats,
    self_time,
    siblings,
    steps,
    templates,
)
from collector.diagnose.verdict import causes_of
from collector.diagnose.window import SPANS_LOST_MIN, Window, windows_of_parts
from collector.model import Trace, Verdict
from tracing.line import format_timestamp


class Signal(NamedTuple):
    """A signal: how it looks, and what it says when it sees nothing."""

    find: Callable[[Window], list[Finding]]
    nothing_seen: str
    needs_baseline: bool = True


SIGNALS: Final[Mapping[str, Signal]] = {
    exceptions.SIGNAL: Signal(exceptions.find, "no exception that healthy traces do not record", False),
    errors.SIGNAL: Signal(errors.find, "no error that healthy traces do not log as often", False),
    death.SIGNAL: Signal(death.find, "no span was left open", False),
    templates.SIGNAL: Signal(templates.find, "no line is logged that healthy traces log less often"),
    steps.SIGNAL: Signal(steps.find, "every operation takes its usual steps"),
    repeats.SIGNAL: Signal(repeats.find, "no call is made more often than usual"),
    self_time.SIGNAL: Signal(self_time.find, "no service spends more time in itself than usual"),
    gaps.SIGNAL: Signal(gaps.find, "calls and messages are under way as long as usual"),
    siblings.SIGNAL: Signal(siblings.find, "no instance differs from the others of its service", False),
    changes.SIGNAL: Signal(changes.find, "nothing is known to have been changed just before"),
}


class Judgement(NamedTuple):
    """A verdict, and what it was made from."""

    verdict: Verdict
    suspects: list[Suspect]  # most likely first, also those that were not surprising enough to be named
    window: Window


class Strictness(NamedTuple):
    """How much it takes to name a cause, in decades of surprise."""

    decades_min: float  # the first cause has at least this
    decades_doubt: float  # speaks for "nothing is wrong"; also the least that a further cause has


# One trace is asked about because somebody thinks it went wrong; and forty healthy traces cannot prove
# more than one in forty, which is 1.6 decades.
ONE_TRACE: Final = Strictness(decades_min=0.9, decades_doubt=0.5)
# A window is looked at whether or not something is wrong: what is named must be rarer than once in a
# thousand healthy windows.
WINDOW: Final = Strictness(decades_min=3.0, decades_doubt=1.5)
# A fault of a minute in a window of an hour: each slice is looked at by itself, up to so many.
SLICE_NS: Final = 60_000_000_000
SLICES_MAX: Final = 15
# So many requests make a rate, and so many times the usual rate are worth a note.
ENTRIES_MIN: Final = 20
TRAFFIC_TIMES: Final = 2.0
CHANGES_NOTED_MAX: Final = 5  # the latest
HEALTHY_TRACES_MIN: Final = 5  # fewer say nothing about what is normal


def diagnose_trace(trace: Trace, baseline: Baseline, *, signals: Mapping[str, Signal] = SIGNALS) -> Verdict:
    """Name the cause of what went wrong in one trace.

    Args:
        baseline: learned from healthy traces of the same entry point.
        signals: which to use, by name.
    """
    return judge_trace(trace, baseline, signals=signals).verdict


def judge_trace(
    trace: Trace,
    baseline: Baseline,
    *,
    changes: Sequence[Change] = (),
    signals: Mapping[str, Signal] = SIGNALS,
) -> Judgement:
    """The same with what the verdict was made from.

    Args:
        changes: what was changed on purpose before it or while it ran.
    """
    judgement = _judge(
        [Window([trace], baseline, changes=changes, one_request=True)], baseline, ONE_TRACE, signals
    )
    verdict = judgement.verdict
    verdict = structs.replace(verdict, trace_id=trace.trace_id, notes=[*verdict.notes, *_doubts(trace)])
    return judgement._replace(verdict=verdict)


def diagnose_window(
    traces: Sequence[Trace],
    baseline: Baseline,
    *,
    start_ns: int | None = None,
    end_ns: int | None = None,
    signals: Mapping[str, Signal] = SIGNALS,
) -> Verdict:
    """Name the cause of what is wrong in a stretch of time.

    Args:
        traces: those that began in it.
        start_ns, end_ns: the stretch, for the verdict.
        signals: which to use, by name.
    """
    return judge_window(traces, baseline, start_ns=start_ns, end_ns=end_ns, signals=signals).verdict


def judge_window(
    traces: Sequence[Trace],
    baseline: Baseline,
    *,
    start_ns: int | None = None,
    end_ns: int | None = None,
    changes: Sequence[Change] = (),
    signals: Mapping[str, Signal] = SIGNALS,
) -> Judgement:
    """The same with what the verdict was made from.

    Args:
        changes: what was changed on purpose, in the stretch and just before it.
    """
    judgement = judge_windows(windows_of(traces, baseline, changes=changes), baseline, signals=signals)
    verdict = structs.replace(judgement.verdict, start_ns=start_ns, end_ns=end_ns)
    return judgement._replace(verdict=verdict)


def windows_of(
    traces: Sequence[Trace], baseline: Baseline, *, changes: Sequence[Change] = ()
) -> list[Window]:
    """What is looked at of a stretch of time: the whole of it, and of a long one each slice by itself."""
    return windows_of_parts(_slices(traces), baseline, changes=changes)


def judge_windows(
    windows: Sequence[Window], baseline: Baseline, *, signals: Mapping[str, Signal] = SIGNALS
) -> Judgement:
    """Judge what `windows_of` made; the windows stay as they are, and can be judged again."""
    return _judge(windows, baseline, WINDOW, signals)


def _slices(traces: Sequence[Trace]) -> list[list[Trace]]:
    """A stretch, or the slices of a long one, to be looked at one by one: a short fault is diluted in it."""
    starts = [trace.start_ns for trace in traces]
    first_ns, last_ns = min(starts, default=0), max(starts, default=0)
    if last_ns - first_ns < 2 * SLICE_NS:
        return [list(traces)]
    slice_ns = max(SLICE_NS, (last_ns - first_ns) // SLICES_MAX + 1)
    slices: dict[int, list[Trace]] = defaultdict(list)
    for trace, start_ns in zip(traces, starts, strict=True):
        slices[(start_ns - first_ns) // slice_ns].append(trace)
    return [slices[at] for at in sorted(slices)]


def _judge(
    windows: Sequence[Window], baseline: Baseline, strictness: Strictness, signals: Mapping[str, Signal]
) -> Judgement:
    known = baseline.profile.traces
    notes = []
    if known < HEALTHY_TRACES_MIN:
        signals = {name: signal for name, signal in signals.items() if not signal.needs_baseline}
        notes.append(f"only {known} healthy traces to compare with: times and steps were not looked at")
    notes += [*_losses(windows[0]), *_changes(windows[0])]
    suspects = strongest(
        localise([finding for signal in signals.values() for finding in signal.find(window)], window)
        for window in windows
    )
    causes = causes_of(suspects, **strictness._asdict(), sight=windows[0].sight)
    insufficient = None
    if not causes and known < HEALTHY_TRACES_MIN:
        insufficient = (
            f"{known} healthy traces to compare with, at least {HEALTHY_TRACES_MIN} are needed to know "
            "what is normal; no exception, error or death of a process is surprising enough by itself"
            f"{_errors(windows[0])}"
        )
    noticed = {name for cause in causes for name in cause.signals}
    verdict = Verdict(
        causes=causes,
        insufficient=insufficient,
        normal=[] if insufficient else _normal(signals, noticed),
        traces_compared=known,
        notes=notes,
    )
    return Judgement(verdict, suspects, windows[0])


def _errors(window: Window) -> str:
    """How many of several traces hold an error, to be looked at where nothing can be compared."""
    failed = sum(trace.has_error for trace in window.traces)
    if window.is_one_trace or not failed:
        return ""
    return f"; {failed} of {len(window.traces)} traces {'holds' if failed == 1 else 'hold'} an error"


def _losses(window: Window) -> list[str]:
    """What of the telemetry did not arrive."""
    notes = []
    if window.spans_lost > SPANS_LOST_MIN:
        notes.append(f"{window.spans_lost:.0%} of the spans did not arrive: missing calls prove less")
    if window.logs_lost:
        notes.append("hardly any log lines arrived: what lines would show was not seen")
    elif window.silent_services:
        silent = ", ".join(sorted(window.silent_services))
        notes.append(f"no log line arrived of {silent}, which usually log")
    elif window.lines_lost:
        notes.append(f"{window.lines_lost:.0%} of the log lines did not arrive: missing lines prove less")
    return notes


def _changes(window: Window) -> list[str]:
    """What is different about the window without being a fault: versions, and how much comes in."""
    notes = [
        f"{service} runs version {version}, which the healthy traces do not know"
        for service, version in sorted(window.new_versions)
    ]
    notes += [
        f"{change.message}, which concerns {change.service or 'everybody'}, at "
        f"{format_timestamp(change.timestamp_ns)[:19]}Z"
        for change in window.changes[-CHANGES_NOTED_MAX:]
    ]
    usual_s = (window.known.last_ns - window.known.first_ns) / 1e9
    asked_s = (window.seen.last_ns - window.seen.first_ns) / 1e9
    for entry, seen in window.seen.entries.items():
        known = window.known.entries.get(entry)
        if known is None or min(seen.traces, known.traces) < ENTRIES_MIN or min(usual_s, asked_s) < 1:
            continue
        times = (seen.traces / asked_s) / (known.traces / usual_s)
        if not 1 / TRAFFIC_TIMES < times < TRAFFIC_TIMES:
            notes.append(
                f"{times:.2g} times as many requests as usual came in at {entry.name} in {entry.service}"
            )
    return notes


def _normal(signals: Mapping[str, Signal], noticed: Collection[str]) -> list[str]:
    return [signal.nothing_seen for name, signal in signals.items() if name not in noticed]


def _doubts(trace: Trace) -> list[str]:
    """What makes a verdict about this trace weaker."""
    doubts = []
    if trace.completeness == "open":
        doubts.append("the trace is still open: what seems to be missing may yet arrive")
    lost = [gap.message for gap in trace.gaps if gap.kind in ("lost", "missing_parent")]
    if lost:
        doubts.append(f"records are missing: {lost[0]}" + (f" and {len(lost) - 1} more" if lost[1:] else ""))
    if trace.truncated:
        doubts.append("the trace was cut at the limit on records: its end was not looked at")
    return doubts


__all__ = [
    "HEALTHY_TRACES_MIN",
    "SIGNALS",
    "Judgement",
    "Signal",
    "diagnose_trace",
    "diagnose_window",
    "judge_trace",
    "judge_window",
    "judge_windows",
    "windows_of",
]
