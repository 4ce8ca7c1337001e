"""A place at which the context is lost: values, no I/O."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

LossKind = Literal["new_trace", "no_ids", "missing_parent"]
Hop = Literal["http", "rpc", "message", "process"]

EXAMPLES_MAX: Final = 3
QUOTE_CHARS_MAX: Final = 160


class ProbableParent(msgspec.Struct, frozen=True, kw_only=True):
    """The span that what was lost probably belongs to. Inferred: no record says so."""

    service: str
    operation: str
    span_kind: str | None
    how: str  # it was found, in words
    matched: int  # of the losses: so many have such a span
    trace_id: str | None  # of one of them; None: such a span is only known from elsewhere
    span_id: str | None


class LossExample(msgspec.Struct, frozen=True, kw_only=True):
    """One record that lost its context."""

    uid: str
    timestamp_ns: int
    trace_id: str | None  # that it began, or has; None: a line outside any
    span_id: str | None
    quote: str  # a span's name, or the line


class ContextLoss(msgspec.Struct, frozen=True, kw_only=True):
    """One place at which the context is lost, and how often.

    `new_trace`: a span that begins a trace although what it does belongs to another; `no_ids`: a log line
    outside any trace; `missing_parent`: a span whose parent never came.
    """

    kind: LossKind
    service: str
    operation: str | None  # of the spans; None for log lines
    logger: str | None
    source: str | None  # `file:line in function`, as far as a log line says it
    hop: Hop  # process: a thread, a queue, an executor or whatever else is inside the process
    count: int
    seen: int  # spans or lines of this place altogether, in the same time
    summary: str
    parent: ProbableParent
    confidence: float  # 0..1
    advice: str
    examples: list[LossExample]


def shortened(text: str) -> str:
    """A quote of one line."""
    line = " ".join(text.split())
    return line if len(line) <= QUOTE_CHARS_MAX else f"{line[:QUOTE_CHARS_MAX]}…"
