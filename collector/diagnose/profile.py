"""What traces did, counted: by operation, by edge, by entry point, and what was logged and raised.

Everything is a count, so that two profiles can be added.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from collector.diagnose.raised import raised_in
from collector.diagnose.spread import Spread
from collector.diagnose.visits import CALL, LOG, Edge, Operation, Step, Visit
from collector.model import Trace
from tracing.semconv import SERVICE_VERSION

OPERATIONS_MAX: Final = 20_000  # and as many edges and templates: what comes later is not learned
TOKENS_MAX: Final = 1_000  # steps known of one operation
SHAPES_MAX: Final = 200  # different sets of calls known of one operation


class OperationProfile(msgspec.Struct, kw_only=True):
    """What one operation does."""

    visits: int = 0
    traces: int = 0  # that these visits belong to
    errors: int = 0  # visits whose span has the status error
    unfinished: int = 0  # visits whose span never ended
    logging: int = 0  # visits that wrote a line at least
    self_time: Spread = msgspec.field(default_factory=Spread)
    follows: dict[str, dict[str, int]] = {}  # step -> the step after it -> how often
    takes: dict[str, int] = {}  # step -> visits that take it at least once
    takes_failing: dict[str, int] = {}  # step -> those of them with an error in them or below
    repeats: dict[str, int] = {}  # step -> how often in all visits together
    most: dict[str, int] = {}  # step -> the most often that one visit took it
    templates: dict[str, str] = {}  # step that is a log line, named by its place -> its template
    shapes: dict[int, int] = {}  # `Visit.shape` -> visits that have it

    def belongs_to_failure(self, token: str) -> bool:
        """Whether a step is mostly taken by runs that fail: to log an error, to show an error page."""
        return 2 * self.takes_failing.get(token, 0) > self.takes.get(token, 0)

    @property
    def lines_a_visit(self) -> float:
        """How many lines a run writes on average."""
        return self._steps_a_visit(LOG)

    @property
    def calls_a_visit(self) -> float:
        """How many calls a run makes on average."""
        return self._steps_a_visit(CALL)

    @property
    def counts(self) -> tuple[dict[str, int], ...]:
        """The counts by step that add up when two profiles do."""
        return self.takes, self.takes_failing, self.repeats

    def _steps_a_visit(self, lane: str) -> float:
        steps = sum(count for token, count in self.repeats.items() if token.startswith(lane))
        return steps / self.visits if self.visits else 0.0


class EdgeProfile(msgspec.Struct, kw_only=True):
    """How long calls between two services are under way: the caller's time without the callee's."""

    calls: int = 0
    traces: int = 0
    gap: Spread = msgspec.field(default_factory=Spread)


class LogProfile(msgspec.Struct, kw_only=True):
    """How often a service writes a template."""

    lines: int = 0
    traces: int = 0


class EntryProfile(msgspec.Struct, kw_only=True):
    """What comes in at one entry point."""

    traces: int = 0
    duration: Spread = msgspec.field(default_factory=Spread)


Key = TypeVar("Key", bound=Hashable)
LogKey = tuple[str, str]  # service, template id


class Profile(msgspec.Struct, kw_only=True):
    """What a set of traces did, counted. A baseline and a window are both counted like this."""

    traces: int = 0
    first_ns: int = 0  # start of the earliest trace; 0: none
    last_ns: int = 0
    parents_there: int = 0  # spans that other records name and that are there
    parents_missing: int = 0  # spans that other records name and that never came
    service_visits: dict[str, int] = {}
    service_lines: dict[str, int] = {}
    versions: dict[tuple[str, str], int] = {}  # service, version: visits
    operations: dict[Operation, OperationProfile] = {}
    edges: dict[Edge, EdgeProfile] = {}
    errors_logged: dict[LogKey, LogProfile] = {}  # of level ERROR and above
    exceptions: dict[tuple[str, str, str], int] = {}  # service, type, birth: visits that recorded it
    entries: dict[Operation, EntryProfile] = {}

    def count(
        self,
        traces: Sequence[Trace],
        visits: Iterable[Visit],
        *,
        is_whole: Callable[[Visit], bool] | None = None,
        with_steps: bool = True,
    ) -> None:
        """Count these traces too, `visits` being theirs.

        Args:
            with_steps: count also what each visit did, logged and raised; else only how long it took and
                how it ended.
            is_whole: visits that are not have lost children, whose time is therefore not counted as
                their own; by default every visit is.
        """
        for trace in traces:
            start_ns = trace.start_ns
            self.traces += 1
            self.first_ns = min(self.first_ns or start_ns, start_ns)
            self.last_ns = max(self.last_ns, start_ns)
        logged: dict[LogKey, set[str]] = {}
        came_by: set[tuple[Operation, str]] = set()
        crossed: set[tuple[Edge, str]] = set()
        for visit in visits:
            self._count_presence(visit)
            if visit.node.inferred:
                continue  # a placeholder says nothing about what is normal
            came_by.add((visit.operation, visit.trace.trace_id))
            edge = visit.edge
            if edge is not None:
                crossed.add((edge, visit.trace.trace_id))
            profile = self._count_visit(visit, edge, is_whole is None or is_whole(visit))
            if not with_steps:
                continue
            if profile is not None:
                self._count_steps(profile, visit)
            for raised in {raised.key for raised in raised_in(visit)}:
                self.exceptions[raised] = self.exceptions.get(raised, 0) + 1
            for step in visit.errors:
                if step.template is not None:
                    key = (step.record.service, step.template.template_id)
                    self.errors_logged.setdefault(key, LogProfile()).lines += 1
                    logged.setdefault(key, set()).add(visit.trace.trace_id)
        for key, trace_ids in logged.items():
            self.errors_logged[key].traces += len(trace_ids)
        for operation, _ in came_by:
            if operation in self.operations:
                self.operations[operation].traces += 1
        for edge, _ in crossed:
            if edge in self.edges:
                self.edges[edge].traces += 1

    def merge(self, other: Profile) -> None:
        """Count what the other counted too."""
        self.traces += other.traces
        starts = [start for start in (self.first_ns, other.first_ns) if start]
        self.first_ns = min(starts, default=0)
        self.last_ns = max(self.last_ns, other.last_ns)
        self.parents_there += other.parents_there
        self.parents_missing += other.parents_missing
        add_all(self.service_visits, other.service_visits)
        add_all(self.service_lines, other.service_lines)
        add_all(self.versions, other.versions)
        add_all(self.exceptions, other.exceptions)
        for operation, theirs in other.operations.items():
            _merge_operation(self.operations.setdefault(operation, OperationProfile()), theirs)
        for edge, profile in other.edges.items():
            mine = self.edges.setdefault(edge, EdgeProfile())
            mine.calls += profile.calls
            mine.traces += profile.traces
            mine.gap.merge(profile.gap)
        for key, logged in other.errors_logged.items():
            ours = self.errors_logged.setdefault(key, LogProfile())
            ours.lines += logged.lines
            ours.traces += logged.traces
        for entry, came in other.entries.items():
            known = self.entries.setdefault(entry, EntryProfile())
            known.traces += came.traces
            known.duration.merge(came.duration)

    def _count_presence(self, visit: Visit) -> None:
        node = visit.node
        if node.inferred:
            # Of a trace that was not sampled there never were spans.
            self.parents_missing += not (node.logs and node.logs[0].trace_flags == 0)
        elif visit.steps:
            self.parents_there += 1
        add(self.service_visits, node.service, 1)
        version = node.record.resource.get(SERVICE_VERSION)
        if version:
            add(self.versions, (node.service, str(version)), 1)
        if node.logs:
            add(self.service_lines, node.service, len(node.logs))

    def _count_visit(self, visit: Visit, edge: Edge | None, is_whole: bool) -> OperationProfile | None:
        """Returns the profile of its operation; None: there are too many operations."""
        node = visit.node
        profile = self.operations.get(visit.operation)
        if profile is None:
            if len(self.operations) >= OPERATIONS_MAX:
                return None
            profile = self.operations[visit.operation] = OperationProfile()
        profile.visits += 1
        profile.errors += visit.failed
        profile.unfinished += not node.finished
        profile.logging += bool(node.logs)
        if edge is None and is_whole:
            profile.self_time.add(node.self_time_ns, node.start_ns)
        elif edge is not None and (edge in self.edges or len(self.edges) < OPERATIONS_MAX):
            between = self.edges.setdefault(edge, EdgeProfile())
            between.calls += 1
            between.gap.add(gap_ns(visit), node.start_ns)
        if visit.parent is None:
            entry = self.entries.setdefault(visit.operation, EntryProfile())
            entry.traces += 1
            entry.duration.add(node.duration_ns, node.start_ns)
        return profile

    def _count_steps(self, profile: OperationProfile, visit: Visit) -> None:
        shape = visit.shape
        if shape in profile.shapes or len(profile.shapes) < SHAPES_MAX:
            add(profile.shapes, shape, 1)
        for before, after in visit.route:
            nexts = profile.follows.get(before)
            if nexts is None:
                if len(profile.follows) >= TOKENS_MAX:
                    continue
                nexts = profile.follows[before] = {}
            nexts[after] = nexts.get(after, 0) + 1
        taken = [step for step in visit.steps if LOG in visit.lanes or not step.is_line]
        for token, steps in _by_token(taken).items():
            if token not in profile.takes and len(profile.takes) >= TOKENS_MAX:
                continue
            template = steps[0].template if token not in profile.templates else None
            if template is not None:
                profile.templates[token] = template.template_id
            add(profile.takes, token, 1)
            add(profile.repeats, token, len(steps))
            profile.most[token] = max(profile.most.get(token, 0), len(steps))
            if visit.has_error:
                add(profile.takes_failing, token, 1)


def _by_token(steps: Iterable[Step]) -> dict[str, list[Step]]:
    by_token: dict[str, list[Step]] = {}
    for step in steps:
        by_token.setdefault(step.token, []).append(step)
    return by_token


def gap_ns(visit: Visit) -> int:
    """How long a call was under way: of a message, until it was taken up; else without the callee's time."""
    node = visit.node
    answer = visit.answer
    if answer is None:
        return node.self_time_ns
    if node.record.span_kind == "PRODUCER":
        return max(0, answer.start_ns - node.start_ns)
    remote = [child for child in node.children if child.service != node.service]
    # Durations do not depend on the clocks being right, unlike the intervals that self time is made of.
    return max(0, node.duration_ns - answer.duration_ns) if len(remote) == 1 else node.self_time_ns


def _merge_operation(mine: OperationProfile, other: OperationProfile) -> None:
    mine.visits += other.visits
    mine.traces += other.traces
    mine.errors += other.errors
    mine.unfinished += other.unfinished
    mine.logging += other.logging
    mine.self_time.merge(other.self_time)
    for counts, more in zip(mine.counts, other.counts, strict=True):
        add_all(counts, more)
    add_all(mine.shapes, other.shapes)
    mine.templates = other.templates | mine.templates
    for token, count in other.most.items():
        mine.most[token] = max(mine.most.get(token, 0), count)
    for token, nexts in other.follows.items():
        add_all(mine.follows.setdefault(token, {}), nexts)


def add(counts: dict[Key, int], key: Key, count: int) -> None:
    """Count so many more of a key."""
    counts[key] = counts.get(key, 0) + count


def add_all(counts: dict[Key, int], more: dict[Key, int]) -> None:
    """Count what other counts have, too."""
    for key, count in more.items():
        counts[key] = counts.get(key, 0) + count
