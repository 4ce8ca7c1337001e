"""B3, Zipkin's headers: in one and in several.

Source: https://github.com/openzipkin/b3-propagation
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tracing.health import count
from tracing.propagation.carriers import Get, Put
from tracing.propagation.formats import SAMPLED, Found, Outgoing, Remote, hex_id

# "d" is debug, which implies sampled; some senders write words. No decision is for us to make: sampled.
_SAMPLED: Final = {"1": SAMPLED, "d": SAMPLED, "true": SAMPLED, "0": 0, "false": 0, "": SAMPLED}


def _remote(trace_id: str, span_id: str, decision: str) -> Remote | None:
    trace, span = _trace_id(trace_id), hex_id(span_id, 16) if len(span_id) == 16 else None
    flags = _SAMPLED.get(decision.lower())
    return None if trace is None or span is None or flags is None else Remote(trace, span, flags)


def _trace_id(text: str) -> str | None:
    """64-bit ids are filled up on the left, so that both sides of a migration see one trace."""
    return hex_id(text, 32) if len(text) in (16, 32) else None


class B3Single:
    """`b3: {trace id}-{span id}-{decision}-{parent span id}`."""

    fields = frozenset({"b3"})

    def read(self, get: Get, names: Callable[[], list[str]], found: Found) -> None:
        """Take the caller's span; a lone decision names none and is left out."""
        header = get("b3")
        if header is None or found.span is not None:
            return
        parts = header.strip().split("-")
        if len(parts) == 1 and parts[0].lower() in _SAMPLED:
            return
        found.span = (
            _remote(parts[0], parts[1], parts[2] if len(parts) > 2 else "") if 2 <= len(parts) <= 4 else None
        )
        if found.span is None:
            count("malformed_b3")

    def write(self, outgoing: Outgoing, put: Put) -> None:
        """Name the current span."""
        if (span := outgoing.span) is not None:
            put("b3", f"{span.trace_id}-{span.span_id}-{span.flags & SAMPLED}")


class B3Multi:
    """`X-B3-TraceId`, `X-B3-SpanId`, `X-B3-Sampled`, `X-B3-Flags`."""

    fields = frozenset({"X-B3-TraceId", "X-B3-SpanId", "X-B3-Sampled"})

    def read(self, get: Get, names: Callable[[], list[str]], found: Found) -> None:
        """Take the caller's span."""
        trace_id, span_id = get("x-b3-traceid"), get("x-b3-spanid")
        if found.span is not None or (trace_id is None and span_id is None):
            return
        debug = (get("x-b3-flags") or "").strip() == "1"
        decision = "d" if debug else (get("x-b3-sampled") or "").strip()
        found.span = _remote((trace_id or "").strip(), (span_id or "").strip(), decision)
        if found.span is None:
            count("malformed_b3")

    def write(self, outgoing: Outgoing, put: Put) -> None:
        """Name the current span."""
        if (span := outgoing.span) is not None:
            put("X-B3-TraceId", span.trace_id)
            put("X-B3-SpanId", span.span_id)
            put("X-B3-Sampled", str(span.flags & SAMPLED))
