"""The traces that are asked about, counted in the same way as the baseline they are compared with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from collector.diagnose.baseline import Baseline, Profile
from collector.diagnose.visits import Operation, Visit, visits_of
from collector.model import Trace


class Window:
    """Traces and their visits, with the baseline's names for everything.

    Attributes:
        known: the profile of the baseline.
        seen: the profile of these traces.
        visits: every visit, parents before their children.
    """

    def __init__(self, traces: Sequence[Trace], baseline: Baseline) -> None:
        self.traces = list(traces)
        self.vocabulary = baseline.vocabulary()
        self.known = baseline.profile
        self.visits = visits_of(self.traces, self.vocabulary)
        self.seen = Profile()
        self.seen.count(self.traces, self.visits)
        self.by_operation: dict[Operation, list[Visit]] = defaultdict(list)
        for visit in self.visits:
            if not visit.node.inferred:
                self.by_operation[visit.operation].append(visit)

    @property
    def is_one_trace(self) -> bool:
        """Whether one request is asked about, of which nobody has to prove that it is unusual."""
        return len(self.traces) == 1

    @property
    def usual_duration_ns(self) -> int:
        """How long half of the healthy traces take that came in where the first of these did."""
        entry = self.known.entries.get(self.visits[0].operation) if self.visits else None
        return entry.duration.quantile_ns(0.5) if entry else 0

    @property
    def services(self) -> list[str]:
        """Every service that took part, by name."""
        return sorted({visit.node.service for visit in self.visits})
