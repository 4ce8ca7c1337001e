"""Spans on the OpenTelemetry API: the light tracer, `span()`, `@traced`."""

from tracing.spans.front import span, traced
from tracing.spans.light import Span
from tracing.spans.remote import RemoteSpan
from tracing.spans.scopes import SpanScope
from tracing.spans.tracer import Tracer, TracerProvider, get_tracer, provider

__all__ = [
    "RemoteSpan",
    "Span",
    "SpanScope",
    "Tracer",
    "TracerProvider",
    "get_tracer",
    "provider",
    "span",
    "traced",
]
