"""The JSON objects of an explanation; a part of `shapes`, which says what holds for all."""

from __future__ import annotations

from typing import Literal

import msgspec

from collector.diagnose.explain import Explanation
from collector.model import Evidence
from tracing.line import format_timestamp


class EvidenceObject(msgspec.Struct, frozen=True, kw_only=True):
    """One record that speaks for a cause."""

    uid: str
    timestamp: str
    service: str
    quote: str
    why: str
    trace_id: str | None
    span_id: str | None


class FigureObject(msgspec.Struct, frozen=True, kw_only=True):
    """One quantity, here and in healthy traces; null: there is nothing to take it of."""

    name: str
    unit: Literal["ns", "share", "count", "each"]  # each: so many in one run
    window: float | None
    baseline: float | None


class NoticedObject(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a signal found."""

    rank: int  # among all that was found, by what it counts
    signal: str
    fault: str
    service: str
    operation: str | None
    decades: float  # surprise: 3 means that one healthy window in a thousand looks like this
    counts: float  # the same, less where another finding explains it
    summary: str
    explained_by: str | None
    figures: list[FigureObject]
    evidence: list[EvidenceObject]


class SignalObject(msgspec.Struct, frozen=True, kw_only=True):
    """What one signal came to."""

    signal: str
    found: int
    decades: float | None  # of the strongest that it found
    rank: int | None  # of that
    said: str  # the strongest's summary, or what seeing nothing means


class RangeObject(msgspec.Struct, frozen=True, kw_only=True):
    """A range of lengths of time, and how many observations lie in it."""

    from_ns: int
    to_ns: int
    window: int
    baseline: int


class DistributionObject(msgspec.Struct, frozen=True, kw_only=True):
    """Lengths of time, here and in healthy traces."""

    what: str
    window_count: int
    baseline_count: int
    window_median_ns: int
    baseline_median_ns: int
    buckets: list[RangeObject]  # rising, an eighth of an octave each, without gaps


class ExplanationObject(msgspec.Struct, frozen=True, kw_only=True):
    """How a verdict was come by: everything that was looked at."""

    signals: list[SignalObject]
    noticed: list[NoticedObject]  # the strongest first
    distributions: list[DistributionObject]


def evidence_view(item: Evidence) -> EvidenceObject:
    """Evidence with its time as people read it."""
    return EvidenceObject(
        uid=item.uid,
        timestamp=format_timestamp(item.timestamp_ns),
        service=item.service,
        quote=item.quote,
        why=item.why,
        trace_id=item.trace_id,
        span_id=item.span_id,
    )


def explanation_view(explanation: Explanation) -> ExplanationObject:
    """An explanation with times as people read them."""
    noticed = [
        NoticedObject(
            **{
                **msgspec.structs.asdict(item),
                "figures": [FigureObject(**msgspec.structs.asdict(figure)) for figure in item.figures],
                "evidence": [evidence_view(cited) for cited in item.evidence],
            }
        )
        for item in explanation.noticed
    ]
    return ExplanationObject(
        signals=[SignalObject(**msgspec.structs.asdict(item)) for item in explanation.signals],
        noticed=noticed,
        distributions=[
            msgspec.convert(msgspec.to_builtins(item), DistributionObject)
            for item in explanation.distributions
        ],
    )
