"""Spans of another provider: which of them have been announced by a `span_start` line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from tracing.sink import slot
from tracing.spans import lines
from tracing.spans.pipeline import fuse

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

# Set on a span of the SDK's when our processor sees it start; the SDK's spans take any attribute.
_MARK: Final = "_backtrail_announced"


def expect(span: Any) -> None:
    """Let the first log line inside a span announce it."""
    setattr(span, _MARK, False)


def announce(span: Any) -> None:
    """Write the `span_start` line of a span that is expected to have one and has none yet."""
    if getattr(span, _MARK, True):
        return
    setattr(span, _MARK, True)
    try:
        slot.sink.write(lines.readable(cast("ReadableSpan", span), start=True), 9)
    except Exception as error:
        fuse.failed(error)
