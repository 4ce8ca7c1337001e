"""Traces -> visits: what happened in each span, step by step, in words that can be counted.

A visit is one span seen as one run of its operation. Its steps are the calls it made and the lines it
logged, in order of time. A step's name is the same in every visit that takes it, so that visits can be
compared: calls are named by what they reach, log lines by the place in the code that wrote them, or by
their template where the place is not known.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from collector.diagnose.stacktrace import short_file
from collector.model import Record, SpanNode, Trace
from collector.templates import Template, TemplateMiner
from tracing.semconv import HTTP_RESPONSE_STATUS_CODE, RPC_GRPC_STATUS_CODE

LOG: Final = "log "  # what the name of a step begins with that is a log line
CALL: Final = "call "
# The span's start and end among the steps of a lane. Calls and log lines are two lanes, each in order of
# time: a tracer's clock and a logger's are not always the same, so the order between them says little.
LANES: Final = (CALL, LOG)
BEGIN: Final = {CALL: "^call", LOG: "^log"}
END: Final = "$"
OPERATION_CHARS_MAX: Final = 200
NAMES_CACHED_MAX: Final = 20_000  # of operations, steps and routes: big systems have a few thousand
STEPS_MAX: Final = 2_000  # of one visit; more are a loop that has said what it does

# UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
GRPC_FAILURES: Final = (2, 4, 8, 10, 12, 13, 14, 15)

_ID_IN_NAME: Final = re.compile(
    r"(?<![^/=:\s])(?:\d+|[0-9a-f]{8}-[0-9a-f-]{27}|(?=[0-9a-f]*\d)[0-9a-f]{12,})(?![^/?&=:\s])",
    re.IGNORECASE,
)


class Operation(NamedTuple):
    """What a span ran; spans of one operation are compared with each other."""

    service: str
    name: str
    kind: str  # OpenTelemetry's span kind, or an empty text


class Edge(NamedTuple):
    """Calls between two services: who calls, who answers, and what."""

    caller: str
    callee: str
    name: str  # operation of the callee


class Step(msgspec.Struct, eq=False, gc=False):
    """One thing that a span did: a call, or a log line."""

    token: str
    at_ns: int
    record: Record
    node: SpanNode | None = None  # of a call: the child
    callee: str | None = None  # of a call into another service: that service
    vocabulary: Vocabulary | None = None  # of a log line: who knows its template
    _template: Template | None = None

    @property
    def is_line(self) -> bool:
        """Whether it is a log line."""
        return self.vocabulary is not None

    @property
    def template(self) -> Template | None:
        """The template of a log line; found when it is asked for, which for most lines is never."""
        if self._template is None and self.vocabulary is not None:
            self._template = self.vocabulary.template(self.record)
        return self._template


# Name of a step, name of the next, and the steps themselves; None: the span's begin or end.
Turn = tuple[str, str, Step | None, Step | None]
# The same by their names alone: what runs are compared by. Few differ, so that equal ones are one object.
Route = tuple[tuple[str, str], ...]


class Visit(msgspec.Struct, eq=False, gc=False, kw_only=True):
    """One run of an operation."""

    node: SpanNode
    operation: Operation
    parent: Visit | None
    trace: Trace
    answer: SpanNode | None  # of a call: see `answer_of`
    edge: Edge | None  # of a call that was answered: between whom it goes
    failed: bool
    has_error: bool  # it, or a span or line below it, is an error
    steps: Sequence[Step] = ()
    lanes: tuple[str, ...] = LANES  # those in which nothing is known to be missing
    errors: Sequence[Step] = ()  # log lines of level ERROR and above
    _route: Route | None = None

    def turns(self) -> Iterator[Turn]:
        """Each pair of steps that follow each other in a lane, by name and as they are.

        Begins with `BEGIN` and ends, if the span has ended, with `END`, both without a step;
        repetitions in a row are left out.
        """
        for lane in self.lanes:
            before: Step | None = None
            name = BEGIN[lane]
            for step in self.steps:
                if step.token != name and step.token.startswith(lane):
                    yield name, step.token, before, step
                    before, name = step, step.token
            if self.node.finished:
                yield name, END, before, None

    @property
    def route(self) -> Route:
        """The names of `turns`; asked for once the names of steps and the lanes are settled."""
        if self._route is None:
            tokens = tuple([step.token for step in self.steps])
            self._route = _route(self.lanes, tokens, self.node.finished)
        return self._route

    @property
    def shape(self) -> int:
        """A number for the set of calls it made, each with how often; the same after a restart."""
        if not self.steps:
            return 0
        calls = sorted(step.token for step in self.steps if step.node is not None)
        return zlib.crc32("\n".join(calls).encode("utf-8", "replace"))

    def ancestors(self) -> Iterator[Visit]:
        """The visits that led to this one, nearest first."""
        above = self.parent
        while above is not None:
            yield above
            above = above.parent


class Vocabulary:
    """Names for log lines: the baseline's templates, and new ones for what it has never seen."""

    def __init__(self, known: TemplateMiner) -> None:
        self._known = known
        self._fresh = TemplateMiner()

    def template(self, record: Record) -> Template:
        """The template of a log line; never changes those that are known."""
        message, group = record.message or "", record.logger or ""
        return self._known.find(message, group=group) or self._fresh.add(message, group=group)


@lru_cache(maxsize=NAMES_CACHED_MAX)
def operation_name(name: str) -> str:
    """The name of a span's operation, ids in it masked: `GET /users/17` -> `GET /users/<id>`."""
    return _ID_IN_NAME.sub("<id>", name)[:OPERATION_CHARS_MAX]


def is_failure(record: Record) -> bool:
    """Whether a span or a log line says that something failed, by its status, level or code.

    Codes of the client's own mistakes are not failures of a program: to refuse is to work.
    """
    if record.is_error:
        return True
    http = record.attributes.get(HTTP_RESPONSE_STATUS_CODE)
    grpc = record.attributes.get(RPC_GRPC_STATUS_CODE)
    return (isinstance(http, int) and http >= 500) or grpc in GRPC_FAILURES


def site(record: Record) -> str | None:
    """The place in the code that wrote a log line, as far as the line says; None: it does not say."""
    source = record.source
    return None if source is None else _site(record.logger, source.file, source.line)


def _site(logger: str | None, file: str | None, line: int | None) -> str | None:
    if line is None:
        return None
    if file:
        return f"{short_file(file)}:{line}"
    return f"{logger}#{line}" if logger else None


def place(record: Record) -> str | None:
    """`site`, and the function where it is known: `shop/orders.py:41 in total`."""
    where = site(record)
    function = record.source.function if record.source else None
    return f"{where} in {function}" if where and function else where


@lru_cache(maxsize=NAMES_CACHED_MAX)
def call_token(callee: str | None, name: str) -> str:
    """The name of a step that is a call; `callee` is the service it reaches, if that is another one."""
    return f"{CALL}{callee}\t{name}" if callee else f"{CALL}{name}"


def callee_of(token: str) -> str | None:
    """The other service that a step reaches; None: it stays in its own."""
    callee, tab, _ = token.removeprefix(CALL).partition("\t")
    return callee if tab and token.startswith(CALL) else None


def name_of(token: str) -> str:
    """The operation that a call reaches, or the place or template of a log line."""
    return token.removeprefix(LOG) if token.startswith(LOG) else token.removeprefix(CALL).rpartition("\t")[2]


def visits_of(traces: Iterable[Trace], vocabulary: Vocabulary) -> list[Visit]:
    """Every visit of the traces, each trace's in the order of its chain, parents first."""
    found: list[Visit] = []
    for trace in traces:
        for root in trace.roots:
            found += _chain(root, trace, vocabulary)
    return found


def _chain(root: SpanNode, trace: Trace, vocabulary: Vocabulary) -> list[Visit]:
    visits = []
    work: list[tuple[SpanNode, Visit | None]] = [(root, None)]
    while work:
        node, parent = work.pop()
        visit = _visit(node, parent, trace)
        visits.append(visit)
        if node.logs or node.children:
            visit.steps = _steps(node, vocabulary)
            if node.logs:
                visit.errors = [step for step in visit.steps if step.is_line and step.record.is_error]
            work.extend((child, visit) for child in reversed(node.children))
    for visit in reversed(visits):  # children before their parents
        visit.has_error = visit.has_error or bool(visit.errors)
        if visit.has_error and visit.parent is not None:
            visit.parent.has_error = True
    return visits


def _visit(node: SpanNode, parent: Visit | None, trace: Trace) -> Visit:
    record, answer, failed = node.record, answer_of(node), is_failure(node.record)
    return Visit(
        node=node,
        operation=_operation(record.service, node.name, record.span_kind or ""),
        parent=parent,
        trace=trace,
        answer=answer,
        edge=Edge(record.service, answer.service, operation_name(answer.name)) if answer else None,
        failed=failed,
        has_error=failed,
    )


def _steps(node: SpanNode, vocabulary: Vocabulary) -> list[Step]:
    steps = [_call(node, child) for child in node.children[:STEPS_MAX]]
    for log in node.logs[:STEPS_MAX]:
        source = log.source
        token = _line_token(log.logger, source.file, source.line) if source is not None else None
        if token is None:
            token = f"{LOG}{vocabulary.template(log).template_id}"
        steps.append(Step(token, log.timestamp_ns + node.skew_ns, log, vocabulary=vocabulary))
    if node.logs and node.children:
        steps.sort(key=lambda step: step.at_ns)  # stable: calls before log lines of the same moment
    return steps[:STEPS_MAX]


@lru_cache(maxsize=NAMES_CACHED_MAX)
def _operation(service: str, name: str, kind: str) -> Operation:
    return Operation(service, operation_name(name), kind)


@lru_cache(maxsize=NAMES_CACHED_MAX)
def _line_token(logger: str | None, file: str | None, line: int | None) -> str | None:
    where = _site(logger, file, line)
    return None if where is None else f"{LOG}{where}"


@lru_cache(maxsize=NAMES_CACHED_MAX)
def _route(lanes: tuple[str, ...], tokens: tuple[str, ...], finished: bool) -> Route:
    pairs: list[tuple[str, str]] = []
    for lane in lanes:
        names = [BEGIN[lane], *(token for token in tokens if token.startswith(lane))]
        pairs += [(before, after) for before, after in pairwise(names) if before != after]
        if finished:
            pairs.append((names[-1], END))
    return tuple(pairs)


def answer_of(node: SpanNode) -> SpanNode | None:
    """The first span in another service that a client's or producer's span led to."""
    if node.record.span_kind not in ("CLIENT", "PRODUCER"):
        return None
    return next((below for below in node.children if below.service != node.service), None)


def _call(node: SpanNode, child: SpanNode) -> Step:
    """A call is named by what it reaches: a client's span by the span it led to in another service."""
    reached = child
    if child.service == node.service:
        reached = answer_of(child) or child
    callee = reached.service if reached.service != node.service else None
    name = operation_name(reached.name)
    return Step(call_token(callee, name), child.start_ns, child.record, node=child, callee=callee)
