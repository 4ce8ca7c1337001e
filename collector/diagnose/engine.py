"""The engine: a window and a baseline in, a verdict out. Deterministic; no model, no network, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from collector.diagnose.baseline import Baseline
from collector.diagnose.findings import Finding
from collector.diagnose.localisation import localise
from collector.diagnose.signals import death, errors, exceptions, gaps, self_time, steps
from collector.diagnose.significance import corrected
from collector.diagnose.verdict import causes_of
from collector.diagnose.window import Window
from collector.model import Trace, Verdict

Signal = Callable[[Window], list[Finding]]

SIGNALS: Final[dict[str, Signal]] = {
    module.SIGNAL: module.find for module in (exceptions, errors, death, steps, self_time, gaps)
}

# One trace is asked about because somebody thinks it went wrong: a third of a per cent of doubt would be
# too strict there, where forty healthy traces cannot prove more than one in forty.
TRACE_DECADES_MIN: Final = 1.0
# A window is asked about by nobody in particular: what is named must be rarer than once in a thousand.
WINDOW_DECADES_MIN: Final = 3.0
HEALTHY_TRACES_MIN: Final = 5  # fewer say nothing about what is normal


def diagnose_trace(trace: Trace, baseline: Baseline) -> Verdict:
    """Name the cause of what went wrong in one trace.

    Args:
        baseline: learned from healthy traces of the same entry point.
    """
    return _diagnose([trace], baseline, decades_min=TRACE_DECADES_MIN, signals=SIGNALS)


def diagnose_window(
    traces: Sequence[Trace],
    baseline: Baseline,
    *,
    start_ns: int | None = None,
    end_ns: int | None = None,
    signals: dict[str, Signal] = SIGNALS,
    decades_min: float = WINDOW_DECADES_MIN,
) -> Verdict:
    """Name the cause of what is wrong in a stretch of time.

    Args:
        traces: those that began in it.
        start_ns, end_ns: the stretch, for the verdict.
    """
    return _diagnose(traces, baseline, decades_min=decades_min, signals=signals)


def _diagnose(
    traces: Sequence[Trace], baseline: Baseline, *, decades_min: float, signals: dict[str, Signal]
) -> Verdict:
    window = Window(traces, baseline)
    findings = [finding for find in signals.values() for finding in find(window)]
    suspects = localise(findings, window)
    return Verdict(
        causes=causes_of(suspects, decades_min=decades_min), traces_compared=baseline.profile.traces
    )


__all__ = ["SIGNALS", "corrected", "diagnose_trace", "diagnose_window"]
