"""Jaeger's own headers, from before it spoke W3C.

Source: https://www.jaegertracing.io/docs/1.76/client-libraries/#propagation-format
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import quote, unquote

from tracing.health import count
from tracing.propagation.carriers import Get, Put
from tracing.propagation.formats import SAMPLED, Found, Outgoing, Remote, hex_id
from tracing.propagation.w3c import BAGGAGE_MEMBERS_MAX

_HEADER: Final = "uber-trace-id"
_BAGGAGE: Final = "uberctx-"
_DEBUG: Final = 0x02  # a debug span is sampled in any case


def parse(header: str) -> Remote | None:
    """Read `{trace id}:{span id}:{parent span id}:{flags}`, ids without leading zeroes allowed."""
    parts = unquote(header.strip()).split(":")
    if len(parts) != 4:
        return None
    trace_id, span_id = hex_id(parts[0], 32), hex_id(parts[1], 16)
    try:
        flags = int(parts[3], 16)
    except ValueError:
        return None
    if trace_id is None or span_id is None or not 0 <= flags <= 0xFF:
        return None
    return Remote(trace_id, span_id, SAMPLED if flags & (SAMPLED | _DEBUG) else 0)


class Jaeger:
    """`uber-trace-id`, and baggage in headers that begin with `uberctx-`."""

    fields = frozenset({_HEADER})

    def read(self, get: Get, names: Callable[[], list[str]], found: Found) -> None:
        """Take the caller's span and baggage."""
        header = get(_HEADER)
        if header is None:
            return
        if found.span is None:
            found.span = parse(header)
            if found.span is None:
                count("malformed_jaeger")
        for name in names():
            if name.startswith(_BAGGAGE) and len(found.baggage) < BAGGAGE_MEMBERS_MAX:
                found.baggage.setdefault(name.removeprefix(_BAGGAGE), unquote(get(name) or ""))

    def write(self, outgoing: Outgoing, put: Put) -> None:
        """Name the current span, and pass the baggage on."""
        if (span := outgoing.span) is not None:
            put(_HEADER, f"{span.trace_id}:{span.span_id}:0:{span.flags & SAMPLED}")
        for key, value in outgoing.baggage.items():
            put(f"{_BAGGAGE}{key}", quote(value))
