"""The traces that are asked about, counted in the same way as the baseline they are compared with."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from collector.changes import Change
from collector.diagnose.baseline import Baseline
from collector.diagnose.losses import doubt_lost_lines, lines_lost, silent_services, spans_lost
from collector.diagnose.profile import Profile
from collector.diagnose.significance import share_decades
from collector.diagnose.visits import LOG, Operation, Step, Visit, visits_of
from collector.model import Trace

SPANS_LOST_MIN: Final = 0.01  # below this, lost spans do not change what is measured
LINES_LOST_MIN: Final = 0.1  # below this, lost lines are not told from programs that write fewer
# What lost telemetry costs of the trust in a verdict, when all of it is lost. Measured on recorded faults
# of which records were taken away at random, see `tests/bench/confidence.py`.
LINES_WORTH: Final = 0.3
SPANS_WORTH: Final = 0.5


class Window:
    """Traces and their visits, with the baseline's names for everything.

    Attributes:
        known: the profile of the baseline.
        seen: the profile of these traces, without the steps, which the signals read for themselves.
        visits: every visit, parents before their children.
        by_operation: those of which it is known what ran; of lost spans those told by their log lines.
        spans_lost: share of spans that never arrived, beyond what is usual.
        silent_services: services that usually log, and of which no line arrived.
        logs_lost: that is so of most services: what brings the lines has failed.
        lines_lost: share of log lines that never arrived, beyond what is usual.
        changes: what was changed on purpose meanwhile and just before, earliest first.
        one_request: a single request is asked about, not a stretch of time in which there was only one.
    """

    def __init__(
        self,
        traces: Sequence[Trace],
        baseline: Baseline,
        *,
        visits: list[Visit] | None = None,
        seen: Profile | None = None,
        changes: Sequence[Change] = (),
        one_request: bool = False,
    ) -> None:
        self.traces = list(traces)
        self.changes = sorted(changes, key=lambda change: (change.timestamp_ns, change.uid))
        self.one_request = one_request
        self.known = baseline.profile
        self.visits = known_visits(self.traces, baseline) if visits is None else visits
        self._whole: set[int] | None = None  # visits that are; None: all
        self.seen = self._counted(with_steps=False) if seen is None else seen
        self.spans_lost = spans_lost(self.seen, self.known)
        self.silent_services, self.logs_lost = silent_services(self.seen, self.known)
        # In one trace a service that stops early is no smaller a part than one whose lines were lost.
        lost = 0.0 if self.is_one_trace else lines_lost(self.visits, self.known)
        self.lines_lost = 1.0 if self.logs_lost else lost if lost > LINES_LOST_MIN else 0.0
        if self.spans_lost > SPANS_LOST_MIN:
            self._whole = self._whole_visits()
            self.seen = self._counted(with_steps=False)
        self.by_operation: dict[Operation, list[Visit]] = defaultdict(list)
        for visit in self.visits:
            if not visit.node.inferred or visit.lanes == (LOG,):
                self.by_operation[visit.operation].append(visit)

    def seen_in_full(self) -> Profile:
        """The profile of these traces with all that a baseline has, for those who explain a verdict."""
        return self._counted(with_steps=True)

    def _counted(self, *, with_steps: bool) -> Profile:
        profile, whole = Profile(), self._whole
        is_whole = None if whole is None else lambda visit: id(visit) in whole
        profile.count(self.traces, self.visits, is_whole=is_whole, with_steps=with_steps)
        return profile

    def _whole_visits(self) -> set[int]:
        """The visits (by identity) that most likely lost none of their calls.

        Of those that made exactly the same calls as many are whole as healthy ones make these calls and
        lose none of them; the others only look like it. They are taken for whole where most are.
        """
        alike: dict[tuple[Operation, int], list[Visit]] = defaultdict(list)
        runs: Counter[Operation] = Counter()
        for visit in self.visits:
            if not visit.node.inferred:
                alike[visit.operation, visit.shape].append(visit)
                runs[visit.operation] += 1
        found: set[int] = set()
        for (operation, shape), visits in alike.items():
            known = self.known.operations.get(operation)
            if known is not None:
                calls = sum(step.node is not None for step in visits[0].steps)
                whole = known.shapes.get(shape, 0) / known.visits * (1 - self.spans_lost) ** calls
                if len(visits) / runs[operation] > 2 * whole:
                    continue
            found.update(map(id, visits))
        return found

    @property
    def new_versions(self) -> set[tuple[str, str]]:
        """Services with a version that the baseline has not seen, though it has seen others of them."""
        versioned = {service for service, _ in self.known.versions}
        return {key for key in self.seen.versions if key not in self.known.versions and key[0] in versioned}

    @property
    def changed_services(self) -> set[str]:
        """Services that were changed: somebody has said so, or they run a new version."""
        told = {change.service for change in self.changes if change.service is not None}
        return told | {service for service, _ in self.new_versions}

    @property
    def sight(self) -> float:
        """How much of what would show a fault has arrived; 0..1, 1 where nothing is known to be lost."""
        return (1 - LINES_WORTH * self.lines_lost) * (1 - SPANS_WORTH * self.spans_lost)

    @property
    def is_one_trace(self) -> bool:
        """Whether one request is asked about, of which nobody has to prove that it is unusual."""
        return len(self.traces) == 1

    def share_decades(
        self, hits: int, visits: int, healthy_hits: int, healthy_visits: int, *, rare: bool = False
    ) -> float:
        """`significance.share_decades` for what is asked about: one request, or a stretch of time."""
        return share_decades(hits, visits, healthy_hits, healthy_visits, rare=rare, by_rule=self.one_request)

    @property
    def usual_duration_ns(self) -> int:
        """How long half of the healthy traces take that came in where the first of these did."""
        entry = self.known.entries.get(self.visits[0].operation) if self.visits else None
        return entry.duration.quantile_ns(0.5) if entry else 0


def windows_of_parts(
    parts: Sequence[Sequence[Trace]], baseline: Baseline, *, changes: Sequence[Change] = ()
) -> list[Window]:
    """A window of all the traces, and of several parts one of each; what the parts saw is added up."""
    traces = [trace for part in parts for trace in part]
    if len(parts) < 2:
        return [Window(traces, baseline, changes=changes)]
    visits = known_visits(traces, baseline)
    part_of = {id(trace): at for at, part in enumerate(parts) for trace in part}
    divided: list[list[Visit]] = [[] for _ in parts]
    for visit in visits:
        divided[part_of[id(visit.trace)]].append(visit)
    windows = [
        Window(part, baseline, visits=own, changes=changes) for part, own in zip(parts, divided, strict=True)
    ]
    seen = None
    if all(window.spans_lost <= SPANS_LOST_MIN for window in windows):  # else they left some runs out
        seen = Profile()
        for window in windows:
            seen.merge(window.seen)
    return [Window(traces, baseline, visits=visits, seen=seen, changes=changes), *windows]


def known_visits(traces: Sequence[Trace], baseline: Baseline) -> list[Visit]:
    """The visits of traces, all that happened in them named as the baseline names it."""
    visits = visits_of(traces, baseline.vocabulary())
    _follow_moved_lines(visits, baseline.profile)
    _recognise_lost_spans(visits, baseline.profile)
    doubt_lost_lines(visits, baseline.profile)
    return visits


def _follow_moved_lines(visits: Sequence[Visit], known: Profile) -> None:
    """Give log lines that a new version has moved within their file the names they had.

    Where an operation logs a template at a place that the baseline does not know, the places at which it
    logs this template are taken for those of the baseline, in the order of their lines, if they are as many.
    """
    lines: dict[Operation, dict[str, Step]] = defaultdict(dict)
    for visit in visits:
        if visit.node.logs:
            written = lines[visit.operation]
            for step in visit.steps:
                if step.token not in written and step.is_line:
                    written[step.token] = step
    names: dict[tuple[Operation, str], str] = {}
    for operation, written in lines.items():
        profile = known.operations.get(operation)
        if profile is None or all(token in profile.takes for token in written):
            continue
        places: dict[str, list[str]] = defaultdict(list)
        for token, step in written.items():
            if step.template is not None:
                places[step.template.template_id].append(token)
        for template, now in places.items():
            was = [token for token, identity in profile.templates.items() if identity == template]
            if len(was) == len(now):
                pairs = zip(sorted(now, key=_line_order), sorted(was, key=_line_order), strict=True)
                names.update(((operation, token), old) for token, old in pairs)
    if names:
        for visit in visits:
            for step in visit.steps:
                step.token = names.get((visit.operation, step.token), step.token)


def _recognise_lost_spans(visits: Sequence[Visit], known: Profile) -> None:
    """Tell by its log lines what ran in a span that never arrived.

    Lines that only one operation of the service writes are as good as its name. Nothing is concluded
    from the calls below it: those that did not arrive are not known.
    """
    lost = [visit for visit in visits if visit.node.inferred and visit.node.logs]
    if not lost:
        return
    writers: dict[tuple[str, str], list[Operation]] = defaultdict(list)
    for operation, profile in known.operations.items():
        for token in profile.templates:
            writers[operation.service, token].append(operation)
    for visit in lost:
        service = visit.node.service
        possible = [set(writers[service, step.token]) for step in visit.steps if step.is_line]
        told = set.intersection(*[operations for operations in possible if operations] or [set()])
        if len(told) == 1:
            visit.operation = told.pop()
            visit.lanes = (LOG,)


def _line_order(token: str) -> tuple[str, int]:
    """Sorts the names of log lines by file and line number."""
    digits = token[len(token.rstrip("0123456789")) :]
    return token[: len(token) - len(digits)], int(digits or 0)
