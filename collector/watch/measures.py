"""Which baseline measures what is asked about: one that was given, the kept one, or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from collector.diagnose.baseline import Baseline
from collector.diagnose.visits import Operation, operation_name
from collector.model import Measure, Trace

# So many requests of its entry point say better what is normal for a trace than its neighbours do.
ENTRY_TRACES_MIN: Final = 100


class Measures(Protocol):
    """Knows baselines for questions.

    Attributes:
        source: where they come from.
    """

    source: Measure

    def for_trace(self, trace: Trace) -> Baseline | None:
        """What measures a trace; None: its healthy neighbours."""
        ...

    def for_window(self, start_ns: int) -> Baseline | None:
        """What measures a stretch of time that begins then; None: the traces before it."""
        ...


class GivenMeasure:
    """One baseline for everything, because somebody said so."""

    source: Measure = "given_baseline"

    def __init__(self, baseline: Baseline) -> None:
        self._baseline = baseline

    def for_trace(self, trace: Trace) -> Baseline | None:
        """The baseline."""
        return self._baseline

    def for_window(self, start_ns: int) -> Baseline | None:
        """The baseline."""
        return self._baseline


class KeptMeasures:
    """The baseline that the watch keeps, for questions about the time that it knows.

    Args:
        baseline: gives a copy of it; `None` while too little is known.
    """

    source: Measure = "kept_baseline"

    def __init__(self, baseline: Callable[[], Baseline | None]) -> None:
        self._baseline = baseline

    def for_trace(self, trace: Trace) -> Baseline | None:
        """The baseline, if it knows the entry point well."""
        if not trace.roots or (baseline := self._known_at(trace.start_ns)) is None:
            return None
        root = trace.roots[0]
        entry = Operation(root.service, operation_name(root.name), root.record.span_kind or "")
        known = baseline.profile.entries.get(entry)
        return baseline if known is not None and known.traces >= ENTRY_TRACES_MIN else None

    def for_window(self, start_ns: int) -> Baseline | None:
        """The baseline, if it was learned by then."""
        return self._known_at(start_ns)

    def _known_at(self, time_ns: int) -> Baseline | None:
        baseline = self._baseline()
        return baseline if baseline is not None and baseline.profile.first_ns <= time_ns else None
