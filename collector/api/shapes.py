"""The JSON objects that people and programs get, declared once.

Each class is one object of the API: its fields are the JSON keys, in this order, always all present
unless their default says `UNSET`. The OpenAPI document is made from these classes, and a test holds
every real answer against it. Changing one is changing the API.

Times are RFC 3339 UTC with nanoseconds as text, because JSON readers cut integers at 2**53; lengths of
time are integers of nanoseconds in keys that end in `_ns`. Absent ids are `null`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from collector.api.explain_shapes import EvidenceObject, ExplanationObject

JsonObject = dict[str, Any]


class _Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Common options of all shapes."""


class RecordObject(_Shape, frozen=True, kw_only=True):
    """One log record or span with the keys of a record line; what it has no value for is left out."""

    uid: str
    timestamp: str
    level: str
    service: str
    trace_id: str | UnsetType = UNSET
    span_id: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    kind: Literal["span", "span_start", "loss"] | UnsetType = UNSET
    logger: str | UnsetType = UNSET
    attributes: JsonObject | UnsetType = UNSET
    exception: JsonObject | UnsetType = UNSET
    source: JsonObject | UnsetType = UNSET
    trace_flags: int | UnsetType = UNSET
    name: str | UnsetType = UNSET
    span_kind: str | UnsetType = UNSET
    parent_span_id: str | UnsetType = UNSET
    duration_ns: int | UnsetType = UNSET
    status: JsonObject | UnsetType = UNSET
    events: list[JsonObject] | UnsetType = UNSET
    links: list[JsonObject] | UnsetType = UNSET
    loss: JsonObject | UnsetType = UNSET
    resource: JsonObject | UnsetType = UNSET


class LogObject(RecordObject, frozen=True, kw_only=True):
    """A log record in its place in a trace."""

    offset_ns: int  # after the trace's start, corrected for clock skew; may be negative
    resource_index: int  # into the trace's `resources`


class NodeObject(_Shape, frozen=True, kw_only=True):
    """One span in its place in the call chain."""

    uid: str  # of the span's record; made up for an inferred span
    span_id: str
    parent_span_id: str | None  # as the span named it; the chain's own relation is the order and `depth`
    depth: int  # 0 for a root; the parent is the nearest node before this one with a depth one less
    service: str
    name: str
    span_kind: str | None
    start: str  # corrected for clock skew
    raw_start: str  # as the sender's clock had it
    offset_ns: int  # of `start`, after the trace's start
    duration_ns: int  # of an unfinished span: what is known of it
    skew_ns: int  # what was added to the raw times
    skew_bound_ns: int | None  # how far that may be off; null: not corrected
    self_time_ns: int  # without the union of its children
    critical_ns: int  # how much of the trace's duration only this span explains
    siblings_folded: int
    finished: bool  # false: only its start arrived
    process_ended: str | None  # of an unfinished span: how its process ended, once that is known
    inferred: bool  # true: it was named as a parent and never arrived itself
    error: bool
    status: JsonObject  # {code, message?}
    logger: str | None  # instrumentation scope
    attributes: JsonObject
    exception: JsonObject | None
    events: list[JsonObject]
    links: list[JsonObject]
    resource_index: int
    logs: list[LogObject]


class GapObject(_Shape, frozen=True, kw_only=True):
    """Something that is known to be missing from a trace, and how we know."""

    kind: Literal["missing_parent", "unfinished", "silent_callee", "lost", "cycle", "duplicate_span"]
    message: str
    span_id: str | None
    service: str | None
    count: int | None


class TraceObject(_Shape, frozen=True, kw_only=True):
    """One call chain: its spans parents first and in order of time, each with its logs."""

    trace_id: str
    service: str | None  # of the first root
    name: str | None  # of the first root
    start: str
    duration_ns: int
    error: bool
    completeness: Literal["complete", "open", "gaps", "unknown"]
    open_since: str | None
    truncated: bool  # true: the limit on records was met, the chain is a part
    records: int
    spans: int
    logs: int
    services: list[str]  # in order of appearance
    gaps: list[GapObject]
    resources: list[JsonObject]  # of the processes; `resource_index` points here
    nodes: list[NodeObject]
    stray_logs: list[LogObject]  # of the trace, but of no span that is known


class TraceSummaryObject(_Shape, frozen=True, kw_only=True):
    """One line of a list of traces."""

    trace_id: str
    service: str
    name: str
    start: str
    duration_ns: int
    error: bool
    spans: int
    logs: int


class TracesObject(_Shape, frozen=True, kw_only=True):
    """A page of traces, newest first. One that was asked for a structure may be short and not the last."""

    traces: list[TraceSummaryObject]
    cursor: str | None  # for the next page; null: this was the last


class LogsObject(_Shape, frozen=True, kw_only=True):
    """A page of records, newest first."""

    records: list[RecordObject]
    cursor: str | None  # for the next page; null: this was the last
    total: int | None  # of all that match; null: it was not asked for


class BucketObject(_Shape, frozen=True, kw_only=True):
    """How many records share a value."""

    value: str
    count: int


class FacetsObject(_Shape, frozen=True, kw_only=True):
    """The most frequent values of a field, by count, then value."""

    field: str
    values: list[BucketObject]


class CauseObject(_Shape, frozen=True, kw_only=True):
    """One place that may have caused the fault."""

    rank: int
    service: str
    instance: str | None
    operation: str | None
    fault: str
    location: str | None
    template: str | None
    summary: str
    confidence: float
    signals: list[str]
    evidence: list[EvidenceObject]
    refuted_by: str | None


class VerdictObject(_Shape, frozen=True, kw_only=True):
    """What caused a fault, ranked; or what data is lacking; or, with neither, that all is normal."""

    trace_id: str | None
    start: str | None  # of the window, when a window was asked for
    end: str | None
    causes: list[CauseObject]
    services: list[str]  # the distinct services of the causes, most likely first
    insufficient: str | None
    normal: list[str]
    notes: list[str]
    traces_compared: int
    measured_by: str | None  # kept_baseline, given_baseline, neighbours (of the trace) or earlier_traces
    explanation: ExplanationObject | UnsetType = UNSET  # where it was asked for


class ServiceObject(_Shape, frozen=True, kw_only=True):
    """One service in a time range."""

    service: str
    spans: int
    logs: int
    errors: int
    operations: int
    duration_p50_ns: int | None
    duration_p95_ns: int | None


class ServicesObject(_Shape, frozen=True, kw_only=True):
    """Every service seen, by name."""

    services: list[ServiceObject]


class OperationObject(_Shape, frozen=True, kw_only=True):
    """One operation of a service in a time range."""

    service: str
    name: str
    spans: int
    errors: int
    duration_p50_ns: int
    duration_p95_ns: int
    duration_p99_ns: int


class OperationsObject(_Shape, frozen=True, kw_only=True):
    """Every operation of a service, by name."""

    service: str
    operations: list[OperationObject]


class RateObject(_Shape, frozen=True, kw_only=True):
    """What happened in one step of time."""

    start: str
    spans: int
    logs: int
    errors: int  # failed spans, and logs at ERROR or above
    duration_p50_ns: int | None  # of the spans, within 2.5 %; null: there were none
    duration_p95_ns: int | None


class RatesObject(_Shape, frozen=True, kw_only=True):
    """Steps of time, earliest first, those in which nothing happened too."""

    start: str
    end: str  # not included
    step_ns: int
    steps: list[RateObject]


class TemplateObject(_Shape, frozen=True, kw_only=True):
    """What a log call says, with its values left out."""

    template_id: str  # of the text and the logger; stays the same while those do
    text: str
    logger: str | None
    services: list[str]  # the most frequent first
    level: str  # the most severe that was seen
    count: int
    trend: list[int]  # counts in `slices` equal parts of the time, earliest first
    first: str  # when it was seen, in this time
    last: str
    example: str  # the newest message
    trace_id: str | None  # of the newest message that has one


class TemplatesObject(_Shape, frozen=True, kw_only=True):
    """What logs say, most frequent first."""

    start: str  # of what was read; later than asked when `truncated`
    end: str
    slices: int
    read: int  # logs that were looked at, the newest
    truncated: bool  # true: there are more, and older, than are read for one answer
    found: int  # templates in all, of which the list has the first
    templates: list[TemplateObject]


class EdgeObject(_Shape, frozen=True, kw_only=True):
    """Calls from one service to another."""

    caller: str
    callee: str
    calls: int
    errors: int


class TopologyObject(_Shape, frozen=True, kw_only=True):
    """Who calls whom."""

    services: list[str]
    edges: list[EdgeObject]


class StatsObject(_Shape, frozen=True, kw_only=True):
    """The state of the collector. `records` counts logs and spans, each once.

    When the store does not answer its figures are null, and everything else is there.
    """

    store_error: str | None  # why the store does not answer; null: it does
    records: int | None
    logs: int | None
    spans: int | None
    span_starts: int | None
    losses: int | None
    partitions: int | None
    damaged_partitions: int | None  # set aside since the store was made
    damaged_records: int | None  # that were in them, as far as is known
    bytes: int | None
    oldest: str | None
    newest: str | None
    durable_seq: int | None
    intake: JsonObject | None  # counters since the start, by name; null without a running service
    wal: JsonObject | None
    indexing: JsonObject | None


class HoleObject(_Shape, frozen=True, kw_only=True):
    """Lines of a process that are not here: offsets, and when they would have been written."""

    start: int
    end: int  # not included
    after: str | None  # written after this time; null: not known
    before: str | None
    reason: str | None  # as the sender gave it; null: it has said nothing
    count: int | None  # lines, where the sender counted them


class SpoolObject(_Shape, frozen=True, kw_only=True):
    """One incarnation of a process: what arrived of it, what is missing, how it ended."""

    spool_id: str
    service: str
    instance: str | None
    host: str | None
    pid: int | None
    parent: str | None  # spool id of the process that it was forked from
    start: int  # offset of the first line that was ever offered
    mark: int  # every line before it is here, or in one of the holes
    lines: int
    missing: list[HoleObject]  # nobody has explained these; what arrives late fills them
    losses: list[HoleObject]  # the sender says itself that it does not have these
    refused: dict[str, int]  # lines by reason
    ended: str | None  # as its last line says, `killed` if another had to write that; null: it may go on
    last_written: str | None  # the sender's clock
    first_received: str | None
    last_received: str | None


class LedgerObject(_Shape, frozen=True, kw_only=True):
    """What arrived of each process, what is missing, and whether it has ended."""

    spools: list[SpoolObject]


class DeletedObject(_Shape, frozen=True, kw_only=True):
    """What a deletion has taken out."""

    deleted: int  # records of every kind


class DeadLetterObject(_Shape, frozen=True, kw_only=True):
    """A record that the store refuses, and why."""

    uid: str
    refused: str  # when; this collector's clock
    stream: str  # where it was to go
    reason: str  # a word: the store's own, or ours
    field: str | None  # that the trouble is at, when the store says
    message: str  # the store's sentence
    record: RecordObject


class WholeDeadLetterObject(DeadLetterObject, frozen=True, kw_only=True):
    """A dead letter with what was sent."""

    document: str | None  # JSON as it was sent; null: it never got so far


class DeadLettersObject(_Shape, frozen=True, kw_only=True):
    """A page of dead letters, in the order they came."""

    total: int
    dead_letters: list[DeadLetterObject]
    cursor: str | None  # of the next page; null: this is the last


class ReplayBody(_Shape, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters go again; nothing named: all of them."""

    uids: list[str] | None = None
    records: list[JsonObject] = []  # to be sent instead, whole, each with the `uid` of its letter


class RefusedAgainObject(_Shape, frozen=True, kw_only=True):
    """A record that is a dead letter still."""

    uid: str
    reason: str


class ReplayedObject(_Shape, frozen=True, kw_only=True):
    """What became of the dead letters that went again."""

    stored: int
    already_stored: int  # the store had them after all
    refused: list[RefusedAgainObject]
    left: int  # dead letters that there are now


class DropBody(_Shape, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters are given up."""

    uids: list[str]


class DroppedObject(_Shape, frozen=True, kw_only=True):
    """What was given up."""

    dropped: int
    left: int  # dead letters that there are now


def plain(shape: msgspec.Struct) -> JsonObject:
    """The plain JSON object of a shape."""
    value: JsonObject = msgspec.to_builtins(shape)
    return value
