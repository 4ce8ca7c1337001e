"""A span in another process, as headers name it."""

from __future__ import annotations

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.span import TraceState


class RemoteSpan(NonRecordingSpan):
    """The parent that a caller sent. OpenTelemetry's context of it is made when somebody asks.

    Attributes:
        trace_id: 32 hex.
        span_id: 16 hex.
        flags: W3C trace flags.
        state: W3C trace state, `None` for an empty one.
    """

    def __init__(self, trace_id: str, span_id: str, flags: int, state: TraceState | None = None) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags
        self.state = state

    def get_span_context(self) -> SpanContext:
        """Ids, flags and state."""
        return SpanContext(
            int(self.trace_id, 16),
            int(self.span_id, 16),
            is_remote=True,
            trace_flags=TraceFlags(self.flags),
            trace_state=self.state,
        )

    def __repr__(self) -> str:
        return f"RemoteSpan({self.trace_id}, {self.span_id}, flags={self.flags:#04x}, state={self.state!r})"
