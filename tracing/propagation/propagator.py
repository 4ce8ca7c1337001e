"""The formats in use, behind OpenTelemetry's propagator interface; `inject`, `extract`, `extracted`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, cast

from opentelemetry import baggage as otel_baggage
from opentelemetry import propagate, trace
from opentelemetry.context.context import Context
from opentelemetry.propagators.textmap import (
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace.propagation import set_span_in_context

from tracing.context import CORRELATION_ID, WANTED_TRACE_ID, bound, declared, get_fields, incoming_fields
from tracing.errors import ConfigurationError
from tracing.health import Fuse, count
from tracing.propagation import carriers
from tracing.propagation.b3 import B3Multi, B3Single
from tracing.propagation.formats import Format, Found, Outgoing, Remote
from tracing.propagation.jaeger import Jaeger
from tracing.propagation.w3c import KNOWN_FLAGS, NO_SPAN_ID, NO_TRACE_ID, VERSION_00, Baggage, TraceContext
from tracing.propagation.x_trace_id import HEADER as X_TRACE_ID
from tracing.propagation.x_trace_id import XTraceId
from tracing.scopes import SPAN_KEY, ScopedContext, alive, current_context, enter, leave
from tracing.spans import RemoteSpan, Span

FORMATS: Final[dict[str, Callable[[], Format]]] = {
    "tracecontext": TraceContext,
    "baggage": Baggage,
    "x-trace-id": XTraceId,
    "b3": B3Single,
    "b3multi": B3Multi,
    "jaeger": Jaeger,
}
DEFAULT_FORMATS: Final = ("tracecontext", "baggage", "x-trace-id")

fuse: Final = Fuse("propagation of headers")


class Propagator(TextMapPropagator):
    """Reads and writes the headers of several formats.

    Args:
        names: of `FORMATS`, or of propagators that others registered with OpenTelemetry. The first
            that names a span wins; X-Trace-ID is asked last, wherever it stands.
        trust_remote_ids: False: the trace of a caller is not continued; its id is kept as `correlation.id`.
    Raises:
        ConfigurationError: a name that nobody registered.
    """

    def __init__(self, names: Iterable[str] = DEFAULT_FORMATS, *, trust_remote_ids: bool = True) -> None:
        ordered = sorted(dict.fromkeys(names), key=lambda name: name == "x-trace-id")
        self._formats = [FORMATS[name]() for name in ordered if name in FORMATS]
        self._others = [_registered(name) for name in ordered if name not in FORMATS]
        self._trust = trust_remote_ids
        # The default formats, in plain dictionaries, of callers that are trusted: nearly every request.
        self._is_usual = ordered == list(DEFAULT_FORMATS) and trust_remote_ids

    @property
    def fields(self) -> set[str]:
        """Names of the headers that `inject` may set."""
        return set().union(
            *(form.fields for form in self._formats), *(other.fields for other in self._others)
        )

    def extract(
        self, carrier: Any, context: Context | None = None, getter: Getter[Any] = default_getter
    ) -> Context:
        """The context that a caller's headers describe, on top of `context`. Never raises."""
        result = Context() if context is None else context
        if fuse.blown:
            return result
        try:
            if self._is_usual and carrier.__class__ is dict and getter is default_getter:
                parent = _usual_parent(carrier)
                if parent is not None:
                    return Context({**result, SPAN_KEY: parent})
            for other in self._others:
                result = other.extract(carrier, result, getter)
            get = carriers.reader(carrier, getter)
            found = Found()
            for form in self._formats:
                form.read(get, lambda: carriers.names(carrier, getter), found)
            return self._context(found, result)
        except Exception as error:
            fuse.failed(error)
            return result

    def inject(
        self, carrier: Any, context: Context | None = None, setter: Setter[Any] = default_setter
    ) -> None:
        """Put the current span, or that of `context`, into headers. Never raises."""
        if fuse.blown:
            return
        try:
            around = current_context() if context is None else alive(context)
            if self._is_usual and carrier.__class__ is dict and setter is default_setter:
                span: Any = around.get(SPAN_KEY)
                if span.__class__ is Span and span.state is None and not _has_baggage(around):
                    carrier["traceparent"] = (
                        f"00-{span.trace_id}-{span.span_id}-{span.flags & KNOWN_FLAGS:02x}"
                    )
                    carrier.setdefault(X_TRACE_ID, span.trace_id)
                    return
            outgoing = _outgoing(around)
            if isinstance(carrier, Mapping):
                outgoing.has = carrier.__contains__
            put = carriers.writer(carrier, setter)
            for form in self._formats:
                form.write(outgoing, put)
            for other in self._others:
                other.inject(carrier, around, setter)
        except Exception as error:
            fuse.failed(error)

    def _context(self, found: Found, context: Context) -> Context:
        additions: dict[str, object] = {}
        if not self._trust and (sent := found.span.trace_id if found.span else found.trace_id) is not None:
            count("refused_remote_id")
            found = Found(correlation_id=sent, baggage=found.baggage)
        if found.span is not None:
            additions[SPAN_KEY] = RemoteSpan(*found.span)
        elif found.trace_id is not None:
            additions[WANTED_TRACE_ID] = int(found.trace_id, 16)
        if found.correlation_id is not None:
            additions[CORRELATION_ID] = found.correlation_id
        if additions:
            context = Context({**context, **additions})
        for key, value in found.baggage.items():
            context = otel_baggage.set_baggage(key, value, context)
        return context


def _usual_parent(carrier: dict[Any, Any]) -> RemoteSpan | None:
    """The caller's span where headers say just that; `None`: whatever else they say, the formats find out."""
    header = carrier.get("traceparent")
    if header.__class__ is not str or "tracestate" in carrier or "baggage" in carrier:
        return None
    match = VERSION_00.fullmatch(header)
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    sent = carrier.get(X_TRACE_ID) or carrier.get("x-trace-id") or trace_id
    if sent != trace_id or trace_id == NO_TRACE_ID or span_id == NO_SPAN_ID:
        return None
    return RemoteSpan(trace_id, span_id, int(flags, 16) & KNOWN_FLAGS)


def _has_baggage(context: Context) -> bool:
    return bool(declared.baggage) or (len(context) > 1 and bool(otel_baggage.get_all(context)))


def _outgoing(context: Context) -> Outgoing:
    outgoing = Outgoing()
    span = context.get(SPAN_KEY)
    if isinstance(span, Span | RemoteSpan):
        outgoing.span = Remote(span.trace_id, span.span_id, span.flags, span.state)
    elif isinstance(span, trace.Span) and (known := span.get_span_context()).is_valid:
        outgoing.span = Remote(
            f"{known.trace_id:032x}", f"{known.span_id:016x}", int(known.trace_flags), known.trace_state
        )
    elif isinstance(wanted := context.get(WANTED_TRACE_ID), int):
        outgoing.trace_id = f"{wanted:032x}"
    if sent := otel_baggage.get_all(context):
        outgoing.baggage = {key: str(value) for key, value in sent.items()}
    if declared.baggage:
        fields = get_fields()
        for name in fields.keys() & declared.baggage:
            outgoing.baggage[name] = str(fields[name])
    return outgoing


def _registered(name: str) -> TextMapPropagator:
    from importlib.metadata import entry_points

    for entry in entry_points(group="opentelemetry_propagator", name=name):
        return cast("TextMapPropagator", entry.load()())
    raise ConfigurationError(
        f"propagators: {name!r} is unknown; built in are {', '.join(FORMATS)}, others need their package"
    )


# ---------------------------------------------------------------- what users call

_default: Final = Propagator()


def _current() -> TextMapPropagator:
    """The propagator that `configure()` made global, or ours before that."""
    installed = propagate.get_global_textmap()
    return installed if isinstance(installed, Propagator) else _default


def carrying_names() -> set[str]:
    """Names of the headers that `inject` may set."""
    return _current().fields


def inject(carrier: Any, context: Context | None = None) -> Any:
    """Put the current trace into headers or message properties: `client.get(url, headers=inject({}))`.

    Args:
        carrier: a mapping, or a list of pairs (gRPC metadata).
        context: instead of the current one.
    Returns:
        The carrier.
    """
    _current().inject(carrier, context)
    return carrier


def extract(carrier: Any) -> Context:
    """Read the trace out of headers; malformed ones are counted and give an empty context.

    Args:
        carrier: a mapping or whatever else has `items()`, such as the headers of `http.server`; a WSGI
            environment; or pairs of names and values. `None` has no headers.
    Returns:
        An OpenTelemetry context, to be given to `start_span(context=…)`; `extracted` makes it current.
    """
    return _current().extract(carrier)


class extracted:
    """Continue the trace of a caller inside a block: `with extracted(request.headers): …`, also `async with`.

    Log lines and spans inside belong to the caller's trace; declared baggage is bound as fields.
    """

    __slots__ = ("_bound", "_carrier", "_scope")

    def __init__(self, carrier: Any) -> None:
        self._carrier = carrier
        self._scope: ScopedContext | None = None
        self._bound: bound | None = None

    def __enter__(self) -> Context:
        context = extract(self._carrier)
        self._scope = enter(context)
        fields = incoming_fields(context)
        if fields:
            self._bound = bound(**fields).__enter__()
        return context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bound is not None:
            self._bound.__exit__(kind, error, traceback)
            self._bound = None
        if self._scope is not None:
            leave(self._scope)
            self._scope = None

    async def __aenter__(self) -> Context:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)


__all__ = [
    "DEFAULT_FORMATS",
    "FORMATS",
    "Propagator",
    "extract",
    "extracted",
    "inject",
    "set_span_in_context",
]
