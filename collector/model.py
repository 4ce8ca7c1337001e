"""Records, traces and verdicts: frozen values without I/O, which every room below shares.

Times are Unix epoch nanoseconds on the sender's clock unless a name says otherwise. Ids are lowercase
hex. An absent value is `None`, never zero or an empty text.

Records, their parts and the nodes of a chain are made by the hundred thousand and hold no cycles, so the
garbage collector need not look at them (`gc=False`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from tracing.semconv import SERVICE_INSTANCE_ID, SEVERITY_ERROR

Kind = Literal["log", "span", "span_start", "loss"]
NO_ATTRIBUTES: Final[dict[str, Any]] = {}


class ExceptionInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An exception as it was logged or recorded on a span."""

    type: str | None = None
    message: str | None = None
    stacktrace: str | None = None  # Python's own text; the place of birth is in its last frames


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The line of code that made a log call."""

    file: str | None = None
    line: int | None = None
    function: str | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How a span ended, in OpenTelemetry's words."""

    code: str = "UNSET"  # UNSET, OK or ERROR
    message: str | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Something that happened inside a span."""

    timestamp_ns: int
    name: str
    attributes: dict[str, Any] = NO_ATTRIBUTES


class Link(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Another span that this one follows from, outside the parent relation."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any] = NO_ATTRIBUTES


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One log record, span, span start or loss note, as the collector keeps it.

    `span_start` and `loss` are kept and shown, and are not counted as records.
    """

    uid: str  # identity, the same however often the record arrives: `<spool id>-<offset>` or a hash
    timestamp_ns: int  # of a span: its start
    level: str  # OpenTelemetry's short name
    severity_number: int  # 1..24, OpenTelemetry's scale; 17 and up is an error
    service: str
    kind: Kind = "log"
    trace_id: str | None = None  # 32 hex; None: logged outside any span
    span_id: str | None = None  # 16 hex; of a span: its own id
    message: str | None = None
    logger: str | None = None  # of a span: the instrumentation scope
    attributes: dict[str, Any] = NO_ATTRIBUTES
    exception: ExceptionInfo | None = None
    source: Source | None = None
    trace_flags: int | None = None
    name: str | None = None  # spans only, as everything down to `links`
    span_kind: str | None = None
    parent_span_id: str | None = None
    duration_ns: int | None = None
    status: Status | None = None
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    loss: dict[str, Any] | None = None  # {reason, count, from, to} of a `loss` note
    resource: dict[str, Any] = NO_ATTRIBUTES  # shared by all records of a process
    received_ns: int = 0  # this collector's clock, at admission
    seq: int = 0  # position in the write-ahead log; 0: never went through one

    @property
    def end_ns(self) -> int:
        """End of a span; of anything else its timestamp."""
        return self.timestamp_ns + (self.duration_ns or 0)

    @property
    def instance(self) -> str | None:
        """The instance of the service, as its resource names it."""
        value = self.resource.get(SERVICE_INSTANCE_ID)
        return None if value is None else str(value)

    @property
    def is_error(self) -> bool:
        """A log of level ERROR or above, or a span whose status is ERROR."""
        if self.kind == "span":
            return self.status is not None and self.status.code == "ERROR"
        return self.severity_number >= SEVERITY_ERROR


# ---------------------------------------------------------------- traces


class Gap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that is known to be missing from a trace, and how we know."""

    kind: Literal["missing_parent", "unfinished", "silent_callee", "lost", "cycle", "duplicate_span"]
    message: str  # one sentence for a person
    span_id: str | None = None
    service: str | None = None
    count: int | None = None


class TraceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger knows of the processes that a trace's records came from.

    Without one, or with `foreign`, nobody can tell whether more will come: the trace is `unknown`.
    """

    gaps: list[Gap] = []  # of kind `lost`: records that never arrived, and why
    open_since_ns: int | None = None  # a process may still send what it wrote after this; None: all is in
    foreign: bool = False  # some records came from senders that state no position
    ended: dict[str, str] = {}  # spool id -> how its process ended, as its `close` line says: "killed", ...


class SpanNode(msgspec.Struct, kw_only=True, gc=False):
    """One span in its place in the call chain; filled while the chain is built, then left alone.

    A span that only started has `finished=False` and its record is the `span_start`. A parent that
    was named but never arrived has `inferred=True` and a record made up from its children and logs.
    """

    record: Record
    children: list[SpanNode] = []
    logs: list[Record] = []
    finished: bool = True
    inferred: bool = False
    process_ended: str | None = None  # of an unfinished span: how its process ended, once that is known
    depth: int = 0
    start_ns: int = 0  # corrected for clock skew; the raw time is in the record
    end_ns: int = 0  # likewise; of an unfinished span: the last thing known to have happened in it
    skew_ns: int = 0  # what was added to the raw times
    skew_bound_ns: int | None = None  # how far `skew_ns` may be off; None: not corrected
    self_time_ns: int = 0  # its duration without the union of its children's
    critical_ns: int = 0  # how much of the trace's duration only this span explains
    siblings_folded: int = 0  # so many of the siblings that follow are like this one; a display may fold them

    @property
    def span_id(self) -> str:
        """The span's own id."""
        return self.record.span_id or ""

    @property
    def service(self) -> str:
        """Service that the span ran in."""
        return self.record.service

    @property
    def name(self) -> str:
        """Operation of the span."""
        return self.record.name or self.record.message or "?"

    @property
    def duration_ns(self) -> int:
        """Length in nanoseconds; of an unfinished span: what is known of it."""
        return max(0, self.end_ns - self.start_ns)

    def walk(self) -> Iterator[SpanNode]:
        """This node and all below it, parents first, children in order of time; never recurses."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """One call chain: every span in its place, every log line at its span, and what is missing."""

    trace_id: str
    roots: list[SpanNode]  # in order of time; more than one where parents are missing
    stray_logs: list[Record]  # of the trace, but of no span that is known
    gaps: list[Gap]
    completeness: Literal["complete", "open", "gaps", "unknown"]
    open_since_ns: int | None = None
    records: int = 0  # logs and spans
    truncated: bool = False  # True: the limit on records was met, the chain is a part

    def walk(self) -> Iterator[SpanNode]:
        """Every node, each root's chain in turn."""
        for root in self.roots:
            yield from root.walk()

    @property
    def start_ns(self) -> int:
        """Earliest corrected start; 0 for an empty trace."""
        starts = [root.start_ns for root in self.roots] + [log.timestamp_ns for log in self.stray_logs]
        return min(starts, default=0)

    @property
    def end_ns(self) -> int:
        """Latest corrected end of any span; 0 for an empty trace."""
        ends = [node.end_ns for node in self.walk()] + [log.timestamp_ns for log in self.stray_logs]
        return max(ends, default=0)

    @property
    def duration_ns(self) -> int:
        """From the earliest start to the latest end."""
        return self.end_ns - self.start_ns

    @property
    def services(self) -> list[str]:
        """Every service that took part, in order of appearance."""
        return list(dict.fromkeys(node.service for node in self.walk()))

    @property
    def has_error(self) -> bool:
        """Whether a span or a log line of it is an error."""
        if any(log.is_error for log in self.stray_logs):
            return True
        return any(node.record.is_error or any(log.is_error for log in node.logs) for node in self.walk())


# ---------------------------------------------------------------- verdicts


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record that speaks for a cause, quoted as a person would quote it."""

    uid: str  # the record, as `Record.uid`
    timestamp_ns: int
    service: str
    quote: str  # one line
    why: str  # what it shows
    trace_id: str | None = None
    span_id: str | None = None


class Cause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place that may have caused the fault."""

    rank: int  # 1 is the most likely
    service: str
    fault: str  # kind of fault, a word of `collector.diagnose.verdict.FAULTS`
    summary: str  # one sentence for a tired person
    confidence: float  # 0..1
    evidence: list[Evidence]
    signals: list[str]  # the modules that found it, strongest first
    instance: str | None = None
    operation: str | None = None  # span name
    location: str | None = None  # `file:line in function`, `logger#line`, or the code region
    template: str | None = None  # log template that carries the fault
    refuted_by: str | None = None  # what, if found, would speak against it


# Whence it is known what is normal: the baseline that the service keeps, one that was given, healthy traces
# of the same entry point, or the traces before the stretch of time.
Measure = Literal["kept_baseline", "given_baseline", "neighbours", "earlier_traces"]
MEASURES: Final[Mapping[str | None, str]] = {  # as it is said of the traces taken for healthy
    "kept_baseline": "of the baseline that the collector keeps",
    "given_baseline": "of the baseline that was given",
    "neighbours": "the nearest in time of its entry point",
    "earlier_traces": "which began before this time",
}


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What caused a fault, ranked, with the records that prove it.

    Exactly one of these holds: `causes` is not empty; `insufficient` says which data is lacking;
    both are empty and the trace or window is normal.
    """

    causes: list[Cause] = []
    insufficient: str | None = None
    trace_id: str | None = None
    start_ns: int | None = None  # of the window, in window mode
    end_ns: int | None = None
    normal: list[str] = []  # what was looked at and found normal
    traces_compared: int = 0  # healthy traces that served as the measure
    measured_by: Measure | None = None  # where they come from; None: whoever asked the engine knows
    notes: list[str] = []  # for instance: which gaps make the verdict weaker

    @property
    def services(self) -> list[str]:
        """The distinct services of the causes, most likely first."""
        return list(dict.fromkeys(cause.service for cause in self.causes))


def as_json(value: Any) -> Any:
    """Return a value of this module as plain JSON types, keys as the fields are named."""
    return msgspec.to_builtins(value)


def resource_key(resource: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """A hashable identity of a resource."""
    return tuple(sorted((key, str(value)) for key, value in resource.items()))
