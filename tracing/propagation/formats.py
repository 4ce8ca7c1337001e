"""What a header format is: two pure functions between headers and a context.

A format reads what a caller sent into `Found` and writes what is current into headers. It never raises on
what it reads: a bad header must not fail the request that carries it, so it is counted and left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from opentelemetry.trace.span import TraceState

from tracing.propagation.carriers import Get, Put

SAMPLED: Final = 0x01


class Remote(NamedTuple):
    """A span in another process."""

    trace_id: str  # 32 hex
    span_id: str  # 16 hex
    flags: int
    state: TraceState | None = None


@dataclass(slots=True)
class Found:
    """What the headers of one request said."""

    span: Remote | None = None
    trace_id: str | None = None  # 32 hex, of an X-Trace-ID: a trace to be in, without a parent
    correlation_id: str | None = None  # an X-Trace-ID that cannot be a trace id
    baggage: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Outgoing:
    """What is current, for the headers of one request."""

    span: Remote | None = None
    trace_id: str | None = None  # where a trace is wanted, and no span is open yet
    baggage: dict[str, str] = field(default_factory=dict)
    has: Callable[[str], bool] = field(default=lambda name: False)  # whether the program set a header itself


class Format(Protocol):
    """One way to say in headers where a request belongs.

    Attributes:
        fields: names of the headers that `write` may set.
    """

    fields: frozenset[str]

    def read(self, get: Get, names: Callable[[], list[str]], found: Found) -> None:
        """Add to `found` what the headers say, where nothing before this format did."""
        ...

    def write(self, outgoing: Outgoing, put: Put) -> None:
        """Set the headers."""
        ...


_HEX: Final = re.compile(r"[0-9a-f]+")


def hex_id(text: str, length: int) -> str | None:
    """An id in lower case, filled with zeroes to its length; `None` if it is none or all zeroes."""
    low = text.lower()
    if not 0 < len(low) <= length or not _HEX.fullmatch(low) or not low.strip("0"):
        return None
    return low.rjust(length, "0")
