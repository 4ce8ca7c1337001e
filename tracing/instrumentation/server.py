"""The span of a request that a server of ours answers, apart from the protocol that brings it.

OpenTelemetry's middlewares cost 66 to 208 µs a request, most of it for metrics that nobody reads here and
for spans around each `send`. These do what a trace needs: one span, its route, its status, its exception.

Source: OpenTelemetry semantic conventions 1.37, "HTTP server".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from tracing import semconv as sc
from tracing.health import Fuse
from tracing.propagation import extract
from tracing.scopes import SPAN_KEY, ScopedContext, enter, enter_span, leave
from tracing.sink import slot
from tracing.spans import Span, get_tracer
from tracing.spans.scopes import fail

# The headers that a format may ask for, and those that become attributes.
WANTED_HEADERS: Final = frozenset(
    {
        "traceparent",
        "tracestate",
        "baggage",
        "x-trace-id",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-sampled",
        "x-b3-flags",
        "uber-trace-id",
        "user-agent",
    }
)
ERROR_STATUS: Final = 500  # of the client's mistakes, 4xx, the server's span says nothing bad
SCOPE: Final = "tracing.instrumentation"
# Where a request of ours lies in the environment, scope or mapping of the framework's. An application inside
# another one finds it there and begins no second span.
REQUEST: Final = "backtrail.request"

fuse: Final = Fuse("tracing of requests")


def wanted_headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The headers that `Request.begin` takes, by their names in lower case; repeated ones are joined."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        if key in WANTED_HEADERS:
            headers[key] = f"{headers[key]},{value}" if key in headers else value
    return headers


def is_wanted(path: str) -> bool:
    """Whether a request to a path is traced now; those of health checks may be excluded."""
    if not slot.active or fuse.blown:
        return False
    return not slot.excluded_paths or not any(pattern.search(path) for pattern in slot.excluded_paths)


def is_on_elsewhere(app: object) -> bool:
    """Whether the program has OpenTelemetry's instrumentation on this application: `instrument_app(app)`."""
    return bool(getattr(app, "_is_instrumented_by_opentelemetry", False))


def enter_request(span: trace.Span, caller: Context) -> ScopedContext:
    """Make the span of a request current, and what else the caller sent: baggage goes on to whom we call."""
    if len(caller) > (SPAN_KEY in caller):
        return enter({**caller, SPAN_KEY: span})
    return enter_span(span)


class Request:
    """One request, from its first byte to the last of its answer.

    The span is current from `begin` to `leave`, in the execution context that called them; it ends with
    `end`, which may come before: what a framework does after the answer is not waited for by anybody.

    Attributes:
        status: of the answer; 0: there is none yet.
        answer_bytes: as the answer announces them; -1: it does not.
    """

    __slots__ = ("_scope", "answer_bytes", "method", "span", "status")

    def __init__(self, method: str) -> None:
        self.method = method
        self.status = 0
        self.answer_bytes = -1
        self.span: trace.Span = trace.INVALID_SPAN
        self._scope: ScopedContext | None = None

    def begin(self, headers: dict[str, str], attributes: dict[str, Any]) -> None:
        """Start the span, a child of the caller's, and make it current.

        It is announced with its route, or with the first log line before that, whichever comes first.
        """
        if agent := headers.get("user-agent"):
            attributes["user_agent.original"] = agent
        attributes[sc.HTTP_REQUEST_METHOD] = self.method
        tracer = get_tracer(SCOPE)
        start = getattr(tracer, "start_unannounced", tracer.start_span)
        caller = extract(headers)
        self.span = start(self.method, context=caller, kind=SpanKind.SERVER, attributes=attributes)
        self._scope = enter_request(self.span, caller)

    @property
    def trace_id(self) -> str | None:
        """32 hex, for the answer's header."""
        if isinstance(self.span, Span):
            return self.span.trace_id
        found = self.span.get_span_context()
        return f"{found.trace_id:032x}" if found.is_valid else None

    def routed(self, route: str) -> None:
        """The framework has found who answers: `/orders/{id}`, not `/orders/7`."""
        span = self.span
        span.update_name(f"{self.method} {route}")
        span.set_attributes({sc.HTTP_ROUTE: route})
        if isinstance(span, Span) and not span.announced:
            span.announce()

    def failed(self, error: BaseException) -> None:
        """An exception left the application; after the answer it says nothing about the request."""
        if self.span.is_recording():
            self.span.set_attribute("error.type", type(error).__qualname__)
            fail(self.span, error, record=True, set_status=True)

    def end(self) -> None:
        """The answer is complete, or there will be none; a second call changes nothing."""
        span = self.span
        if not span.is_recording():
            return
        if self.status:
            span.set_attributes({sc.HTTP_RESPONSE_STATUS_CODE: self.status})
            if self.status >= ERROR_STATUS:
                span.set_status(Status(StatusCode.ERROR))
        span.end()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make the span current once more, for what a server says of the request afterwards."""
        scope = enter_span(self.span)
        try:
            yield
        finally:
            leave(scope)

    def leave(self) -> None:
        """The application is done; the span, ended by now, is no longer current."""
        self.end()
        if self._scope is not None:
            leave(self._scope)
            self._scope = None


# What was answered last in this thread or task; `None`: it was not traced. For what a server says of a
# request when it is over, without anything that the application has seen.
latest: Final[ContextVar[Request | None]] = ContextVar("backtrail_latest_request", default=None)
