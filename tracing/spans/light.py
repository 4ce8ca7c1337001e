"""The light span: what OpenTelemetry's API asks of a span, and one line when it ends.

The SDK's span takes a lock for every attribute, copies what it is given three times, and hands the result
to a queue; that is 85 % of what its spans cost. This one keeps plain values and writes its line itself. It
has the names that instrumentations read of recording spans (`kind`, `name`, `attributes`, `status`,
`parent`), and `readable()` is the SDK's own `ReadableSpan` for anybody's `SpanProcessor`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import DEFAULT_TRACE_STATE, TraceState
from opentelemetry.util import types

from tracing import semconv as sc
from tracing.health import count
from tracing.line import STACKTRACE_CHARS_MAX, cut, exception_fields
from tracing.sink import slot
from tracing.spans import lines
from tracing.spans.pipeline import fuse, pipeline

if TYPE_CHECKING:
    from opentelemetry.context.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    from tracing.spans.tracer import Tracer

SAMPLED: Final = 0x01
RANDOM: Final = 0x02

_UNSET: Final = Status(StatusCode.UNSET)
_PLAIN: Final = frozenset((str, int, float, bool, type(None), bytes))


class Span(trace.Span):
    """A span being recorded. Made by `Tracer.start_span`; safe to use from several threads."""

    __slots__ = (
        "_announced",
        "_dropped",
        "_ended",
        "_events",
        "_flags",
        "_inherited",
        "_links",
        "_name",
        "_parent_id",
        "_parent_is_remote",
        "_parent_span",
        "_record_exception",
        "_set_status_on_exception",
        "_start_mono_ns",
        "_state",
        "_status",
        "duration_ns",
        "ids",
        "kind",
        "own_attributes",
        "span_id",
        "start_time",
        "trace_id",
        "tracer",
    )

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        *,
        trace_id: str,
        span_id: str,
        flags: int,
        kind: SpanKind,
        state: TraceState | None = None,
        parent_id: str | None = None,
        parent_span: Span | None = None,
        fields: Mapping[str, Any] | None = None,
        inherited: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
    ) -> None:
        self.tracer = tracer
        self.trace_id = trace_id  # 32 hex
        self.span_id = span_id  # 16 hex
        self.ids = b',"trace_id":"%b","span_id":"%b"' % (trace_id.encode(), span_id.encode())
        self.kind = kind
        self._name = name
        self._flags = flags
        self._state = state
        self._parent_id = parent_id
        # Kept while both are open, so that a log line can announce the whole path to it.
        self._parent_span = parent_span
        self._parent_is_remote = parent_span is None
        self._inherited = inherited
        self.own_attributes: dict[str, Any] = {}  # `attributes` shows them
        self._events: list[tuple[int, str, Mapping[str, Any]]] | None = None
        self._links: list[Link] | None = None
        self._status = _UNSET
        self._dropped: dict[str, int] | None = None
        self._ended = False
        self._announced = not flags & SAMPLED  # what is dropped must not look unfinished
        self._record_exception = True
        self._set_status_on_exception = True
        # The nearest word counts: the caller's, then what is bound, then what the call itself says.
        if inherited:
            self._set(inherited)
        if fields:
            self._set(fields)
        if attributes:
            self._set(attributes)
        for link in links or ():
            self.add_link(link.context, link.attributes)
        self.duration_ns: int | None = None
        if start_time is None:
            self._start_mono_ns: int | None = time.monotonic_ns()
            self.start_time = time.time_ns()
        else:
            self._start_mono_ns = None
            self.start_time = start_time

    # ------------------------------------------------------------ what instrumentations read

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
        return bool(self._flags & SAMPLED)

    @property
    def flags(self) -> int:
        """W3C trace flags."""
        return self._flags

    @property
    def state(self) -> TraceState | None:
        """W3C trace state, if a caller sent one."""
        return self._state

    @property
    def inherited(self) -> Mapping[str, Any] | None:
        """Fields that a caller sent, for the log lines inside this span and its children."""
        return self._inherited

    @property
    def announced(self) -> bool:
        """Whether a `span_start` line stands for this span, or none is wanted."""
        return self._announced

    @property
    def parent_id(self) -> str | None:
        """16 hex, or `None` for a root."""
        return self._parent_id

    @property
    def parent(self) -> SpanContext | None:
        """The parent's context, as the SDK's spans have it."""
        if self._parent_id is None:
            return None
        return SpanContext(
            int(self.trace_id, 16),
            int(self._parent_id, 16),
            is_remote=self._parent_is_remote,
            trace_flags=TraceFlags(self._flags),
            trace_state=self._state,
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
    def events(self) -> Sequence[tuple[int, str, Mapping[str, Any]]]:
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
        """The process, as the SDK's spans have it."""
        return pipeline.resource

    @property
    def instrumentation_scope(self) -> Any:
        """Who made the span, as the SDK's spans have it."""
        return self.tracer.instrumentation_scope

    # ------------------------------------------------------------ OpenTelemetry's API

    def get_span_context(self) -> SpanContext:
        """Ids and flags, to be propagated."""
        return SpanContext(
            int(self.trace_id, 16),
            int(self.span_id, 16),
            is_remote=False,
            trace_flags=TraceFlags(self._flags),
            trace_state=DEFAULT_TRACE_STATE if self._state is None else self._state,
        )

    def is_recording(self) -> bool:
        """True until the end; of a span that was not sampled too, since it may still end in error."""
        return not self._ended

    def set_attribute(self, key: str, value: types.AttributeValue) -> None:
        """Set one attribute; what JSON cannot say is written as its `repr`."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, types.AttributeValue]) -> None:
        """Set several attributes."""
        if self._ended:
            count("ended_span_changed")
            return
        self._set(attributes)

    def add_event(
        self,
        name: str,
        attributes: types.Attributes = None,
        timestamp: int | None = None,
    ) -> None:
        """Add something that happened now, or at `timestamp` (epoch nanoseconds)."""
        if self._ended:
            count("ended_span_changed")
            return
        kept = self._limited(attributes, pipeline.limits.event_attributes_max) if attributes else {}
        event = (time.time_ns() if timestamp is None else timestamp, name, kept)
        if self._events is None:
            self._events = [event]
            return
        self._events.append(event)
        if len(self._events) > pipeline.limits.events_max:
            del self._events[0]  # the end of a story explains more than its beginning
            self._drop("events")

    def add_link(self, context: SpanContext, attributes: types.Attributes = None) -> None:
        """Name another span that this one follows from."""
        if self._ended:
            count("ended_span_changed")
            return
        if context is None or not context.is_valid:
            return
        if self._links is None:
            self._links = []
        if len(self._links) >= pipeline.limits.links_max:
            self._drop("links")
            return
        self._links.append(
            Link(
                context, self._limited(attributes, pipeline.limits.event_attributes_max) if attributes else {}
            )
        )

    def update_name(self, name: str) -> None:
        """Give the operation a better name."""
        if self._ended:
            count("ended_span_changed")
            return
        self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it went. OK is final and UNSET changes nothing, as the specification has it."""
        if self._ended:
            count("ended_span_changed")
            return
        new = status if isinstance(status, Status) else Status(status, description)
        if self._status.status_code is StatusCode.OK or new.status_code is StatusCode.UNSET:
            return
        self._status = new

    def record_exception(
        self,
        exception: BaseException,
        attributes: types.Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Add the event `exception` with type, message and stack trace."""
        found = exception_fields(exception)
        event: dict[str, Any] = {
            sc.EXCEPTION_TYPE: found["type"],
            sc.EXCEPTION_MESSAGE: found["message"],
            sc.EXCEPTION_STACKTRACE: cut(found["stacktrace"], STACKTRACE_CHARS_MAX),
        }
        if escaped:
            event["exception.escaped"] = "True"
        if attributes:
            event.update(attributes)
        self.add_event(sc.EXCEPTION_EVENT, event, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """End the span and write its line; a second call changes nothing."""
        if self._ended:
            return
        self._ended = True
        # The monotonic clock, so that a clock that is set back gives no negative duration.
        if end_time is not None:
            self.duration_ns = max(0, end_time - self.start_time)
        elif self._start_mono_ns is not None:
            self.duration_ns = time.monotonic_ns() - self._start_mono_ns
        else:
            self.duration_ns = max(0, time.time_ns() - self.start_time)
        self._parent_span = None
        try:
            if pipeline.processors:
                self._tell()
            failed = self._status.status_code is StatusCode.ERROR
            if self._flags & SAMPLED or failed or self.duration_ns >= pipeline.slow_ns:
                slot.sink.write(lines.finished(self), 17 if failed else 9)
        except Exception as error:
            fuse.failed(error)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the span after `with tracer.start_span(…)`, with the exception that ended the block."""
        if error is not None:
            self.fail(
                error, record=self._record_exception, set_status=self._set_status_on_exception, escaped=True
            )
        self.end()

    # ------------------------------------------------------------ ours

    def on_exception(self, *, record: bool, set_status: bool) -> None:
        """Choose what an exception that leaves `with span:` does to the span; both, unless told otherwise."""
        self._record_exception = record
        self._set_status_on_exception = set_status

    def fail(self, error: BaseException, *, record: bool, set_status: bool, escaped: bool = False) -> None:
        """Note that an exception ended the work, unless it is one that says no more than "stop".

        `GeneratorExit`, `KeyboardInterrupt`, `SystemExit` and `CancelledError` are no errors of the work.
        """
        if not isinstance(error, Exception):
            return
        if record:
            self.record_exception(error, escaped=escaped)
        if set_status:
            self.set_status(Status(StatusCode.ERROR, lines.described(error)))

    def announce(self) -> None:
        """Write the `span_start` lines that make this span visible should it never end, parents first."""
        path: list[Span] = []
        span: Span | None = self
        while span is not None and not span._announced:
            span._announced = True
            path.append(span)
            span = span._parent_span
        try:
            for span in reversed(path):
                slot.sink.write(lines.started(span), 9)
        except Exception as error:
            fuse.failed(error)

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

    def started(self, context: Context | None) -> None:
        """Tell other people's processors, and announce the span where it stands for a request."""
        for processor in pipeline.processors:
            processor.on_start(self, parent_context=context)  # type: ignore[arg-type]  # has what they read
        if not self._announced and (self._parent_is_remote or self.kind in lines.ENTRY_KINDS):
            self._announced = True
            slot.sink.write(lines.started(self), 9)

    def _tell(self) -> None:
        view = self.readable()
        for processor in pipeline.processors:
            try:
                processor.on_end(view)
            except Exception as error:
                fuse.failed(error)

    def _set(self, attributes: Mapping[str, Any]) -> None:
        own, maximum = self.own_attributes, pipeline.limits.attributes_max
        if len(own) + len(attributes) <= maximum and pipeline.limits.value_chars_max is None:
            own.update(attributes)
            for key, value in attributes.items():
                if value.__class__ not in _PLAIN:
                    own[key] = _frozen(value)
            return
        for key, value in attributes.items():
            if key in own or len(own) < maximum:
                own[key] = self._short(_frozen(value))
            else:
                self._drop("attributes")

    def _limited(self, attributes: Mapping[str, Any], maximum: int) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, value in attributes.items():
            if len(kept) >= maximum:
                self._drop("attributes")
                continue
            kept[key] = self._short(_frozen(value))
        return kept

    def _short(self, value: Any) -> Any:
        maximum = pipeline.limits.value_chars_max
        return cut(value, maximum) if maximum is not None and isinstance(value, str) else value

    def _drop(self, what: str) -> None:
        count(f"{what}_over_limit")
        if self._dropped is None:
            self._dropped = {}
        self._dropped[what] = self._dropped.get(what, 0) + 1


def _frozen(value: Any) -> Any:
    """A value as it is now: the program may go on to change its list or dictionary."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value
