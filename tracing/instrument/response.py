"""The answer of a server says its trace: header `X-Trace-ID`, for people and for gateways."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.instrumentation import propagators
from opentelemetry.trace import format_trace_id

from tracing.propagation.x_trace_id import HEADER


class TraceIdResponse(propagators.ResponsePropagator):
    """OpenTelemetry's hook for headers of answers; one that was there before is asked as well."""

    def __init__(self, before: propagators.ResponsePropagator | None) -> None:
        self.before = before

    def inject(
        self,
        carrier: Any,
        context: Context | None = None,
        setter: Any = propagators.default_setter,
    ) -> None:
        """Set the header to the current trace's id."""
        if self.before is not None:
            self.before.inject(carrier, context, setter)
        found = trace.get_current_span(context).get_span_context()
        if found.is_valid:
            setter.set(carrier, HEADER, format_trace_id(found.trace_id))


def answer_with_trace_id() -> None:
    """Let the instrumented servers answer with the trace id."""
    before = propagators.get_global_response_propagator()  # type: ignore[no-untyped-call]
    if not isinstance(before, TraceIdResponse):
        propagators.set_global_response_propagator(TraceIdResponse(before))  # type: ignore[no-untyped-call]


def stop_answering() -> None:
    """Put back what was there before."""
    now = propagators.get_global_response_propagator()  # type: ignore[no-untyped-call]
    if isinstance(now, TraceIdResponse):
        propagators.set_global_response_propagator(now.before)  # type: ignore[no-untyped-call]
