"""The light span: what OpenTelemetry's API asks of a span, and one line when it ends.

The SDK's span takes a lock for every attribute, copies what it is given three times, and hands the result
to a queue; that is 85 % of what its spans cost. This one keeps plain values and writes its line itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol

from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.span import TraceState
from opentelemetry.util import types

from tracing import semconv as sc
from tracing.context import Fields
from tracing.health import count
from tracing.line import STACKTRACE_CHARS_MAX, cut, exception_fields
from tracing.sink import slot
from tracing.spans import lines
from tracing.spans.pipeline import SAMPLED, fuse, pipeline
from tracing.spans.view import SpanEvent, SpanView

if TYPE_CHECKING:
    from opentelemetry.context.context import Context

    from tracing.spans.tracer import Tracer

_PLAIN: Final = frozenset((str, int, float, bool, type(None), bytes))


class Clock(Protocol):
    """The two clocks of a span, as the module `time` has them."""

    def time_ns(self) -> int:
        """Epoch nanoseconds."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds that are never set back."""
        ...


clock: Clock = time  # `tracing.testing` puts a clock here that stands still


class Span(SpanView):
    """A span being recorded. Made by `Tracer.start_span`; safe to use from several threads.

    Args:
        fields: what is bound here.
        attributes: what the call itself says; it goes before `fields`, these before what a caller sent.
        start_time: epoch nanoseconds; `None`: now.
    """

    _ended = False
    _parent_span: Span | None = None
    _record_exception = True
    _set_status_on_exception = True

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        kind: SpanKind,
        trace_id: str,
        span_id: str,
        parent_id: str | None,
        flags: int,
        fields: Fields,
        attributes: Mapping[str, Any] | None,
        start_time: int | None,
    ) -> None:
        self.tracer = tracer
        self._name = name
        self.kind = kind
        self.trace_id = trace_id
        self.span_id = span_id
        self.ids = b',"trace_id":"%b","span_id":"%b"' % (trace_id.encode(), span_id.encode())
        self.parent_id = parent_id
        self.flags = flags
        self.announced = not flags & SAMPLED
        self.own_attributes: dict[str, Any] = {}
        if fields:
            self._set(fields)
        if attributes:
            self._set(attributes)
        if start_time is None:
            self._start_mono_ns: int | None = clock.monotonic_ns()
            self.start_time = clock.time_ns()
        else:
            self._start_mono_ns = None
            self.start_time = start_time

    def origin(self) -> tuple[str, str, int, TraceState | None]:
        """What a child takes over: trace id, its parent's id, flags, state."""
        return self.trace_id, self.span_id, self.flags, self.state

    def child_of(self, parent: Span) -> None:
        """Take what is handed down from a local parent."""
        self.has_local_parent = True
        if parent.inherited is not None:
            self.inherited = parent.inherited
        if not (parent._ended or parent.announced):
            # Kept while both are open, so that a log line can announce the whole path to it.
            self._parent_span = parent

    def inherit(self, fields: Mapping[str, Any]) -> None:
        """Take the fields that a caller sent; what the program says of the span goes before them."""
        self.inherited = fields
        own, self.own_attributes = self.own_attributes, {}
        self._set(fields)
        self._set(own)

    def on_exception(self, *, record: bool, set_status: bool) -> None:
        """Choose what an exception that leaves `with span:` does to the span; both, unless told otherwise."""
        self._record_exception = record
        self._set_status_on_exception = set_status

    # ------------------------------------------------------------ OpenTelemetry's API

    def is_recording(self) -> bool:
        """True until the end; of a span that was not sampled too, since it may still end in error."""
        return not self._ended

    def set_attribute(self, key: str, value: types.AttributeValue) -> None:
        """Set one attribute; what JSON cannot say is written as its `repr`."""
        self.set_attributes({key: value})

    def set_attributes(self, attributes: Mapping[str, types.AttributeValue]) -> None:
        """Set several attributes."""
        if not self._is_open():
            return
        try:
            self._set(attributes)
        except Exception as error:  # no mapping
            fuse.failed(error)

    def add_event(
        self,
        name: str,
        attributes: types.Attributes = None,
        timestamp: int | None = None,
    ) -> None:
        """Add something that happened now, or at `timestamp` (epoch nanoseconds)."""
        if not self._is_open():
            return
        kept = self._limited(attributes)
        event: SpanEvent = (clock.time_ns() if timestamp is None else timestamp, str(name), kept)
        self.remarkable = True
        if self._events is None:
            self._events = [event]
            return
        self._events.append(event)
        if len(self._events) > pipeline.limits.events_max:
            del self._events[0]  # the end of a story explains more than its beginning
            self._drop("events")

    def add_link(self, context: SpanContext, attributes: types.Attributes = None) -> None:
        """Name another span that this one follows from."""
        if not isinstance(context, SpanContext) or not context.is_valid or not self._is_open():
            return
        self.remarkable = True
        if self._links is None:
            self._links = []
        if len(self._links) < pipeline.limits.links_max:
            self._links.append(Link(context, self._limited(attributes)))
        else:
            self._drop("links")

    def add_links(self, links: Sequence[Link]) -> None:
        """Name several."""
        for link in links:
            self.add_link(link.context, link.attributes)

    def update_name(self, name: str) -> None:
        """Give the operation a better name."""
        if self._is_open():
            self._name = str(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Say how it went. OK is final and UNSET changes nothing, as the specification has it."""
        if not isinstance(status, Status | StatusCode) or not self._is_open():
            return
        new = status if isinstance(status, Status) else Status(status, description)
        if self._status.status_code is StatusCode.OK or new.status_code is StatusCode.UNSET:
            return
        self._status = new
        self.remarkable = True

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
        self.add_event(sc.EXCEPTION_EVENT, {**event, **self._limited(attributes)}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """End the span and write its line; a second call changes nothing."""
        if self._ended:
            return
        self._ended = True
        # The monotonic clock, so that a clock that is set back gives no negative duration.
        if end_time is None and self._start_mono_ns is not None:
            self.duration_ns = clock.monotonic_ns() - self._start_mono_ns
        else:
            self.duration_ns = max(0, (end_time or clock.time_ns()) - self.start_time)
        self._parent_span = None
        try:
            if pipeline.processors:
                self._tell()
            failed = self.remarkable and self._status.status_code is StatusCode.ERROR
            if self.flags & SAMPLED or failed or self.duration_ns >= pipeline.slow_ns:
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

    def tell_of_start(self, context: Context | None) -> None:
        """Let other people's processors see the span begin."""
        for processor in pipeline.processors:
            processor.on_start(self, parent_context=context)  # type: ignore[arg-type]  # has what they read

    def announce(self) -> None:
        """Write the `span_start` lines that make this span visible should it never end, parents first."""
        path: list[Span] = []
        span: Span | None = self
        while span is not None and not span.announced:
            span.announced = True
            span.quick = span.inherited is None
            path.append(span)
            span = span._parent_span
        try:
            for span in reversed(path):
                slot.sink.write(lines.started(span), 9)
        except Exception as error:
            fuse.failed(error)

    def _is_open(self) -> bool:
        if self._ended:
            count("ended_span_changed")
        return not self._ended

    def _tell(self) -> None:
        view = self.readable()
        for processor in pipeline.processors:
            try:
                processor.on_end(view)
            except Exception as error:
                fuse.failed(error)

    def _set(self, attributes: Mapping[str, Any]) -> None:
        own, limits = self.own_attributes, pipeline.limits
        if len(own) + len(attributes) > limits.attributes_max or limits.value_chars_max is not None:
            self._set_limited(attributes)
        elif _PLAIN.issuperset(map(type, attributes.values())):
            own.update(attributes)
        else:
            for key, value in attributes.items():
                own[key] = _frozen(value)

    def _set_limited(self, attributes: Mapping[str, Any]) -> None:
        own = self.own_attributes
        for key, value in attributes.items():
            if key in own or len(own) < pipeline.limits.attributes_max:
                own[key] = _short(_frozen(value))
            else:
                self._drop("attributes")

    def _limited(self, attributes: types.Attributes) -> dict[str, Any]:
        """Attributes of an event or a link; none of what is no mapping."""
        kept: dict[str, Any] = {}
        try:
            for key, value in attributes.items() if attributes else ():
                if len(kept) < pipeline.limits.event_attributes_max:
                    kept[key] = _short(_frozen(value))
                else:
                    self._drop("attributes")
        except Exception as error:
            fuse.failed(error)
        return kept

    def _drop(self, what: str) -> None:
        count(f"{what}_over_limit")
        self.remarkable = True
        if self._dropped is None:
            self._dropped = {}
        self._dropped[what] = self._dropped.get(what, 0) + 1


def _short(value: Any) -> Any:
    maximum = pipeline.limits.value_chars_max
    return cut(value, maximum) if maximum is not None and isinstance(value, str) else value


def _frozen(value: Any) -> Any:
    """A value as it is now: the program may go on to change its list or dictionary."""
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return value
