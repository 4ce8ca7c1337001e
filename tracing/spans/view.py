"""A span as others read it: instrumentations while it is open, the SDK's processors when it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import DEFAULT_TRACE_STATE, TraceState

from tracing.spans.pipeline import SAMPLED, pipeline

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from tracing.spans.tracer import Tracer

UNSET: Final = Status(StatusCode.UNSET)

# Epoch nanoseconds, name, attributes.
SpanEvent = tuple[int, str, Mapping[str, Any]]


class SpanView(trace.Span):
    """What a light span holds, and the names under which the SDK's spans show it.

    What few spans have is a default of the class, which costs a span nothing until it is set.
    """

    tracer: Tracer
    kind: SpanKind
    trace_id: str  # 32 hex
    span_id: str  # 16 hex
    ids: bytes  # both, as a piece of a line
    flags: int  # W3C trace flags
    state: TraceState | None = None  # W3C trace state, if a caller sent one
    parent_id: str | None  # 16 hex; None: a root
    inherited: Mapping[str, Any] | None = None  # fields that a caller sent, for the log lines inside
    start_time: int  # epoch nanoseconds
    duration_ns: int | None = None  # None while the span is open
    own_attributes: dict[str, Any]  # `attributes` shows them

    announced: bool  # a `span_start` line stands for it; what is not sampled needs none
    quick = False  # announced, and `ids` is all that a log line inside must know
    has_local_parent = False  # a span of ours in this process
    remarkable = False  # has events, links, a status, or something was over a limit

    _name: str
    _status: Status = UNSET
    _events: list[SpanEvent] | None = None
    _links: list[Link] | None = None
    _dropped: dict[str, int] | None = None

    @property
    def name(self) -> str:
        """Name of the operation."""
        return self._name

    @property
    def attributes(self) -> Mapping[str, Any]:
        """A view of the attributes so far."""
        return MappingProxyType(self.own_attributes)

    @property
    def status(self) -> Status:
        """Status so far."""
        return self._status

    @property
    def sampled(self) -> bool:
        """Whether the span is written whatever becomes of it."""
        return bool(self.flags & SAMPLED)

    @property
    def parent(self) -> SpanContext | None:
        """The parent's context."""
        if self.parent_id is None:
            return None
        return SpanContext(
            int(self.trace_id, 16),
            int(self.parent_id, 16),
            is_remote=not self.has_local_parent,
            trace_flags=TraceFlags(self.flags),
            trace_state=self.state,
        )

    def get_span_context(self) -> SpanContext:
        """Ids and flags, to be propagated."""
        return SpanContext(
            int(self.trace_id, 16),
            int(self.span_id, 16),
            is_remote=False,
            trace_flags=TraceFlags(self.flags),
            trace_state=DEFAULT_TRACE_STATE if self.state is None else self.state,
        )

    @property
    def context(self) -> SpanContext:
        """The span's own context."""
        return self.get_span_context()

    @property
    def end_time(self) -> int | None:
        """Epoch nanoseconds; `None` while the span is open."""
        return None if self.duration_ns is None else self.start_time + self.duration_ns

    @property
    def events(self) -> Sequence[SpanEvent]:
        """(epoch nanoseconds, name, attributes), in order of arrival."""
        return tuple(self._events or ())

    @property
    def links(self) -> Sequence[Link]:
        """Other spans this one follows from."""
        return tuple(self._links or ())

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many attributes, events and links were over their limits."""
        return self._dropped or {}

    @property
    def resource(self) -> Resource | None:
        """The process."""
        return pipeline.resource

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """Who made the span."""
        return self.tracer.instrumentation_scope

    def readable(self) -> ReadableSpan:
        """The span as the SDK's processors and exporters know spans."""
        from opentelemetry.attributes import BoundedAttributes
        from opentelemetry.sdk.trace import Event, ReadableSpan

        return ReadableSpan(
            name=self._name,
            context=self.get_span_context(),
            parent=self.parent,
            resource=pipeline.resource,
            attributes=BoundedAttributes(attributes=self.own_attributes),
            events=[Event(name, attributes, timestamp) for timestamp, name, attributes in self.events],
            links=self.links,
            kind=self.kind,
            status=self._status,
            start_time=self.start_time,
            end_time=self.end_time,
            instrumentation_scope=self.instrumentation_scope,
        )
