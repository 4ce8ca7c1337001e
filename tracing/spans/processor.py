"""Beside a provider that was there first: its spans become our lines, through an ordinary `SpanProcessor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from tracing.context import get_fields
from tracing.sink import slot
from tracing.spans import foreign, lines
from tracing.spans.pipeline import fuse

if TYPE_CHECKING:
    from opentelemetry.context.context import Context
    from opentelemetry.sdk.trace import Span


class LineProcessor(SpanProcessor):
    """Writes a line for every span of the SDK's that ends, and announces those that stand for a request.

    A processor cannot be taken off a provider; `active = False` makes it do nothing.
    """

    def __init__(self) -> None:
        self.active = True

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Put the bound fields on the span; announce it now, or with its first log line."""
        if not self.active or fuse.blown:
            return
        try:
            if fields := get_fields():
                span.set_attributes(fields)
            if not span.get_span_context().trace_flags.sampled:
                return
            foreign.expect(span)
            parent, kind = span.parent, span.kind
            # Compared by identity: to hash a member of an enumeration is a call.
            is_entry = kind is SpanKind.SERVER or kind is SpanKind.CONSUMER
            if is_entry or parent is None or parent.is_remote:
                foreign.announce(span)
        except Exception as error:
            fuse.failed(error)

    def on_end(self, span: ReadableSpan) -> None:
        """Write the span's line."""
        if not self.active or fuse.blown:
            return
        try:
            failed = span.status.status_code is StatusCode.ERROR
            slot.sink.write(lines.readable(span), 17 if failed else 9)
        except Exception as error:
            fuse.failed(error)
