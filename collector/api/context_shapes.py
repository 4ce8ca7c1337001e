"""The JSON objects about lost contexts; a part of `shapes`, which says what holds for all."""

from __future__ import annotations

from typing import Literal

import msgspec


class ProbableParentObject(msgspec.Struct, frozen=True, kw_only=True):
    """The span that what was lost probably belongs to."""

    service: str
    operation: str  # the span's name, ids in it masked
    span_kind: str | None
    how: str  # it was found
    matched: int  # of the losses: so many have such a span
    trace_id: str | None  # of the first of them; null: it is known from other traces only
    span_id: str | None


class LossExampleObject(msgspec.Struct, frozen=True, kw_only=True):
    """One record that lost its context."""

    uid: str
    timestamp: str
    trace_id: str | None  # null: a line outside any trace
    span_id: str | None
    quote: str  # a span's name, or the line


class ContextLossObject(msgspec.Struct, frozen=True, kw_only=True):
    """One place at which the context is lost.

    `new_trace`: spans begin traces although they belong to others; `no_ids`: log lines are outside any trace;
    `missing_parent`: spans name a parent that never came.
    """

    kind: Literal["new_trace", "no_ids", "missing_parent"]
    service: str
    operation: str | None  # of the spans; null for log lines
    logger: str | None
    source: str | None  # `file:line in function`
    hop: Literal["http", "rpc", "message", "process"]  # process: a thread, a queue, an executor
    count: int
    seen: int  # spans or lines of this place, in the same time
    summary: str
    parent: ProbableParentObject
    inferred: bool  # always true: no record states it
    confidence: float
    advice: str
    examples: list[LossExampleObject]


class ContextLossesObject(msgspec.Struct, frozen=True, kw_only=True):
    """Every place at which the context was lost in a stretch of time, the surest first."""

    start: str
    end: str
    traces: int  # that were looked at
    loose_lines: int  # log lines outside any trace that were looked at
    is_whole: bool  # false: there is more than was looked at
    losses: list[ContextLossObject]
