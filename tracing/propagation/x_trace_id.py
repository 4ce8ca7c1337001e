"""`X-Trace-ID`: one id for everything that a request causes, as gateways and people send it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from tracing.health import count
from tracing.propagation.carriers import Get, Put
from tracing.propagation.formats import Found, Outgoing

HEADER: Final = "X-Trace-ID"
CORRELATION_CHARS_MAX: Final = 128

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def parse(header: str) -> tuple[str | None, str | None]:
    """Read an `X-Trace-ID`.

    Returns:
        (trace id, None) for 32 hex digits or a UUID, whose dashes are removed; (None, correlation id) for
        anything else: its printable ASCII characters, at most `CORRELATION_CHARS_MAX`, `None` for none.
    """
    text = header.strip()
    low = text.lower()
    if _TRACE_ID.fullmatch(low) and low.strip("0-"):
        return low.replace("-", ""), None
    printable = "".join(character for character in text[:4096] if " " <= character <= "~")
    return None, printable[:CORRELATION_CHARS_MAX] or None


class XTraceId:
    """A trace id without a span: it says which trace a request belongs to, where `traceparent` does not."""

    fields = frozenset({HEADER})

    def read(self, get: Get, names: Callable[[], list[str]], found: Found) -> None:
        """Take the id as the trace to be in; as an attribute where it cannot be, or another one counts."""
        header = get("x-trace-id") or get(HEADER)
        if header is None:
            return
        trace_id, correlation_id = parse(header)
        if found.span is None:
            found.trace_id, found.correlation_id = trace_id, correlation_id
        elif trace_id != found.span.trace_id:
            found.correlation_id = trace_id or correlation_id
        if found.correlation_id is not None:
            count("correlation_id")

    def write(self, outgoing: Outgoing, put: Put) -> None:
        """Say the trace that is current, unless the program says one itself."""
        trace_id = outgoing.trace_id if outgoing.span is None else outgoing.span.trace_id
        if trace_id is not None and not outgoing.has(HEADER):
            put(HEADER, trace_id)
