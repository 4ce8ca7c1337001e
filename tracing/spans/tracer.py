"""The tracer and its provider: where a span gets its parent, its ids and the decision to be sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, NonRecordingSpan, SpanKind
from opentelemetry.trace.span import TraceState
from opentelemetry.util import types

from tracing.context import WANTED_TRACE_ID, get_fields, incoming_fields
from tracing.scopes import SPAN_KEY, alive, current_context
from tracing.spans import lines
from tracing.spans.light import Span
from tracing.spans.pipeline import SAMPLED, fuse, pipeline
from tracing.spans.remote import RemoteSpan
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
        self.pieces = lines.Pieces(name)

    @property
    def instrumentation_scope(self) -> InstrumentationScope:
        """The scope as the SDK's spans have it."""
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        return InstrumentationScope(self.name, self.version, self.schema_url, self.attributes)

    def start_unannounced(self, name: str, *args: Any, **kwargs: Any) -> trace.Span:
        """`start_span` without the `span_start` line of roots, servers and consumers.

        For a server that will know a better name in a moment; the first log line inside announces it anyway.
        """
        return self.start_span(name, *args, **kwargs, announces=False)

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
        *,
        announces: bool = True,
    ) -> trace.Span:
        """Start a span, a child of the one in `context` (default: the current one).

        Never raises: when anything of ours fails, the span given records nothing.
        """
        around = current_context() if context is None else alive(context)
        parent: Any = around.get(SPAN_KEY)
        if not pipeline.active or fuse.blown or pipeline.foreign is not None:
            options = (context, kind, attributes, links, start_time)
            return self._elsewhere(name, parent, *options, record_exception, set_status_on_exception)
        try:
            is_ours = parent.__class__ is Span
            trace_id, parent_id, flags, state = parent.origin() if is_ours else _origin(parent, around)
            if pipeline.decides:
                flags, attributes, state = pipeline.decide(
                    trace_id, parent_id, flags, state, around, str(name), kind, attributes, links
                )
            elif parent_id is None:
                flags |= SAMPLED
            span = Span(
                self,
                name if name.__class__ is str else str(name),
                kind,
                trace_id,
                pipeline.new_span_id(),
                parent_id,
                flags,
                get_fields(),
                attributes,
                start_time,
            )
            if is_ours:
                span.child_of(parent)
            elif inherited := incoming_fields(around):
                span.inherit(inherited)
            if state is not None:
                span.state = state
            if links:
                span.add_links(links)
            if not (record_exception and set_status_on_exception):
                span.on_exception(record=record_exception, set_status=set_status_on_exception)
            if pipeline.processors:
                span.tell_of_start(context)
            if announces and not span.announced:
                # Compared by identity: to hash a member of an enumeration is a call.
                is_entry = kind is SpanKind.SERVER or kind is SpanKind.CONSUMER
                if is_entry or not is_ours:
                    span.announce()
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
            context,
            kind,
            attributes,
            links,
            start_time,
            record_exception,
            set_status_on_exception,
            end_on_exit,
        )

    def _elsewhere(self, name: str, parent: object, *options: Any) -> trace.Span:
        """A span of the provider that came after us; where there is none, one that records nothing."""
        if pipeline.foreign is not None:
            tracer = pipeline.foreign.get_tracer(self.name, self.version, self.schema_url, self.attributes)
            return tracer.start_span(name, *options)
        return NonRecordingSpan(parent.get_span_context()) if isinstance(parent, trace.Span) else INVALID_SPAN


def _origin(parent: object, around: Context) -> tuple[str, str | None, int, TraceState | None]:
    """Trace id, parent id, flags and state without a parent of ours.

    The parent may be in another process, or another library's span in this one, or there is none.
    """
    if isinstance(parent, RemoteSpan):
        return parent.trace_id, parent.span_id, parent.flags, parent.state
    if isinstance(parent, trace.Span) and (found := parent.get_span_context()).is_valid:
        state = found.trace_state or None
        return f"{found.trace_id:032x}", f"{found.span_id:016x}", int(found.trace_flags), state
    wanted = around.get(WANTED_TRACE_ID)
    if isinstance(wanted, int):
        return f"{wanted:032x}", None, 0, None
    return pipeline.new_trace_id(), None, pipeline.root_flags, None


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


_by_name: Final[dict[str, Tracer]] = {}


def get_tracer(name: str, version: str | None = None) -> trace.Tracer:
    """A tracer of the provider whose spans count: ours, or the one that was set before `configure()`."""
    if pipeline.foreign is not None:
        return pipeline.foreign.get_tracer(name, version)
    if version is not None:
        return provider.get_tracer(name, version)
    tracer = _by_name.get(name)
    if tracer is None:
        tracer = _by_name[name] = provider.get_tracer(name)
    return tracer
