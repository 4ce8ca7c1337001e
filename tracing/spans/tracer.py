"""The tracer and its provider: where a span gets its parent, its ids and the decision to be sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, NonRecordingSpan, SpanKind
from opentelemetry.trace.span import TraceState
from opentelemetry.util import types

from tracing import fastline
from tracing.context import (
    SPAN_KEY,
    WANTED_TRACE_ID,
    alive,
    current_context,
    get_fields,
    incoming_fields,
)
from tracing.spans.light import RANDOM, SAMPLED, Span
from tracing.spans.pipeline import ALWAYS, RATIO_MASK, fuse, pipeline
from tracing.spans.scopes import SpanScope

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope


class Tracer(trace.Tracer):
    """Makes light spans for one instrumentation scope."""

    def __init__(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: types.Attributes = None,
    ) -> None:
        self.name = name
        self.version = version
        self.schema_url = schema_url
        self.attributes = attributes
        self.logger_piece = fastline.logger(name) if name else b""

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """The scope as the SDK's spans have it."""
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        return InstrumentationScope(self.name, self.version, self.schema_url, self.attributes)

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        """Start a span, a child of the one in `context` (default: the current one).

        Never raises: when anything of ours fails, the span given records nothing.
        """
        around = current_context() if context is None else alive(context)
        parent = around.get(SPAN_KEY)
        if not pipeline.active or fuse.blown:
            return (
                NonRecordingSpan(parent.get_span_context())
                if isinstance(parent, trace.Span)
                else INVALID_SPAN
            )
        try:
            origin = _from_parent(parent) if parent.__class__ is Span else _from_outside(parent, around)
            span = self._started(origin, around, str(name), kind, attributes, links, start_time)
            span.on_exception(record=record_exception, set_status=set_status_on_exception)
            if pipeline.processors or not span.announced:
                span.started(context)
            return span
        except Exception as error:
            fuse.failed(error)
            return parent if isinstance(parent, trace.Span) else INVALID_SPAN

    def start_as_current_span(  # type: ignore[override]  # the API types its generator, not what it returns
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> SpanScope:
        """Start a span for a `with` block, or for each call of a decorated function."""
        return SpanScope(
            self,
            name,
            context=context,
            kind=kind,
            attributes=attributes,
            links=links,
            start_time=start_time,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
            end_on_exit=end_on_exit,
        )

    def _started(
        self,
        origin: _Origin,
        around: Context,
        name: str,
        kind: SpanKind,
        attributes: types.Attributes,
        links: Sequence[Link] | None,
        start_time: int | None,
    ) -> Span:
        state, flags = origin.state, origin.flags
        if pipeline.sampler is not None:
            trace_number = int(origin.trace_id, 16)
            result = pipeline.sampler.should_sample(around, trace_number, name, kind, attributes, links)
            sampled = result.decision.is_sampled()  # type: ignore[no-untyped-call]
            if result.decision.is_recording():  # type: ignore[no-untyped-call]
                attributes = result.attributes
            state = result.trace_state or state
        elif pipeline.parent_based and origin.parent_id is not None:
            sampled = bool(flags & SAMPLED)
        elif pipeline.ratio_bound == ALWAYS:
            sampled = True
        else:
            sampled = (int(origin.trace_id, 16) & RATIO_MASK) < pipeline.ratio_bound
        return Span(
            self,
            name,
            trace_id=origin.trace_id,
            span_id=f"{pipeline.ids.generate_span_id():016x}",
            flags=flags | SAMPLED if sampled else flags & ~SAMPLED,
            kind=kind,
            state=state,
            parent_id=origin.parent_id,
            parent_span=origin.span,
            fields=get_fields(),
            inherited=origin.inherited,
            attributes=attributes,
            links=links,
            start_time=start_time,
        )


class _Origin(NamedTuple):
    """What a new span takes from where it is started."""

    trace_id: str
    parent_id: str | None
    flags: int
    state: TraceState | None
    span: Span | None  # the parent, while it is one of ours and open
    inherited: Mapping[str, Any] | None


def _from_parent(parent: Any) -> _Origin:
    return _Origin(
        parent.trace_id,
        parent.span_id,
        parent.flags,
        parent.state,
        parent if parent.is_recording() else None,
        parent.inherited,
    )


def _from_outside(parent: object, around: Context) -> _Origin:
    """No parent, or one in another process, or another library's span in this one."""
    inherited = incoming_fields(around) or None
    if isinstance(parent, trace.Span) and (found := parent.get_span_context()).is_valid:
        return _Origin(
            f"{found.trace_id:032x}",
            f"{found.span_id:016x}",
            int(found.trace_flags),
            found.trace_state or None,
            None,
            inherited,
        )
    wanted = around.get(WANTED_TRACE_ID)
    if isinstance(wanted, int):
        return _Origin(f"{wanted:032x}", None, 0, None, None, inherited)
    flags = RANDOM if pipeline.ids.is_trace_id_random() else 0
    return _Origin(f"{pipeline.ids.generate_trace_id():032x}", None, flags, None, None, inherited)


class TracerProvider(trace.TracerProvider):
    """Gives out tracers. There is one, for as long as the process lives, whatever is configured.

    OpenTelemetry keeps the first tracer that a library asks for; a provider that is always the same, with
    a pipeline that changes, lets `uninstall()` and a second `configure()` reach those too.
    """

    def __init__(self) -> None:
        self._tracers: dict[tuple[str, str | None, str | None], Tracer] = {}

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: types.Attributes = None,
    ) -> Tracer:
        """The tracer of an instrumentation scope."""
        key = (instrumenting_module_name, instrumenting_library_version, schema_url)
        tracer = self._tracers.get(key)
        if tracer is None:
            tracer = Tracer(str(instrumenting_module_name or ""), *key[1:], attributes)
            # setdefault: two threads may come here at once, and both must get the same tracer.
            tracer = self._tracers.setdefault(key, tracer)
        return tracer

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Let somebody else have every recorded span as well."""
        pipeline.processors = (*pipeline.processors, span_processor)

    @property
    def resource(self) -> Resource | None:
        """The process, as the SDK's provider has it."""
        return pipeline.resource

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Ask other people's processors to flush; our own lines are on disk when a span ends."""
        flushed = [processor.force_flush(timeout_millis) for processor in pipeline.processors]
        return all(flushed)

    def shutdown(self) -> None:
        """Shut other people's processors down."""
        for processor in pipeline.processors:
            processor.shutdown()


provider: Final = TracerProvider()


def get_tracer(name: str, version: str | None = None) -> trace.Tracer:
    """A tracer of the provider whose spans count: ours, or the one that was set before `configure()`."""
    if pipeline.foreign is not None:
        return pipeline.foreign.get_tracer(name, version)
    return provider.get_tracer(name, version)
