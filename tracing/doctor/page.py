"""The doctor's page for a person: a line a hop, in the order of a program's layers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from tracing.doctor.findings import Finding, HopResult, State

WIDTH_CHARS_MAX: Final = 100
WIDTH_CHARS_MIN: Final = 40
One = TypeVar("One")
_MARKS: Final[dict[State, str]] = {"good": "✓", "note": "·", "bad": "✗"}
_HOP_CHARS: Final = 38


def page(findings: Sequence[tuple[str, Finding]], hops: Sequence[HopResult], width: int) -> Iterator[str]:
    """Every line of it.

    Args:
        findings: each with the heading that it stands under.
        width: of the terminal, in characters.
    """
    width = max(WIDTH_CHARS_MIN, min(width, WIDTH_CHARS_MAX))
    for heading, found in _grouped((heading, one) for heading, one in findings):
        yield heading
        for finding in found:
            yield from _finding(finding, width)
        yield ""
    for layer, rows in _grouped((hop.layer, hop) for hop in hops):
        yield layer
        for hop in rows:
            yield from _hop(hop, width)
        yield ""
    yield summary([finding for _, finding in findings], hops)


def summary(findings: Sequence[Finding], hops: Sequence[HopResult]) -> str:
    """How much was kept, in one line."""
    tried = [hop for hop in hops if hop.not_tried is None]
    kept = sum(hop.is_kept for hop in tried)
    parts = [f"{kept} of {len(tried)} hops kept"]
    if (rest := len(hops) - len(tried)) > 0:
        parts.append(f"{rest} not tried")
    asked = [hop for hop in tried if hop.arrived is not None]
    if asked:
        parts.append(f"{sum(bool(hop.arrived) for hop in asked)} of {len(asked)} arrived in the collector")
    if bad := sum(finding.state == "bad" for finding in findings):
        parts.append(f"{bad} other thing{'s' if bad > 1 else ''} to mend")
    return ", ".join(parts)


def _grouped(pairs: Iterable[tuple[str, One]]) -> list[tuple[str, list[One]]]:
    groups: dict[str, list[One]] = {}
    for name, one in pairs:
        groups.setdefault(name, []).append(one)
    return list(groups.items())


def _finding(finding: Finding, width: int) -> Iterator[str]:
    yield from _wrapped(f"  {_MARKS[finding.state]} ", finding.what, width)
    yield from _advice(finding.where, finding.advice, width)


def _hop(hop: HopResult, width: int) -> Iterator[str]:
    if hop.not_tried is not None:
        yield f"  – {hop.hop:<{_HOP_CHARS}} not tried: {hop.not_tried}"
        return
    if hop.is_kept:
        yield f"  ✓ {hop.hop:<{_HOP_CHARS}} kept{_arrival(hop)}"
        return
    yield from _wrapped(f"  ✗ {hop.hop:<{_HOP_CHARS}} ", f"{_lost(hop)}{_arrival(hop)}", width)
    yield from _wrapped("    ", hop.reason or "", width)
    yield from _advice(hop.where, hop.advice, width)


def _lost(hop: HopResult) -> str:
    """What of a request did not come along; where all did, in which case it does not."""
    if hop.broken is not None:
        return f"broke: {hop.broken}"
    always = [column for column in hop.lost if column in ("log ids", "parent", "baggage")]
    if always:
        return f"lost: {', '.join(always)}"
    said = {"exception": "after an exception", "cancellation": "after a cancellation"}
    seldom = [said.get(column, f"only {hop.cells[column]} at once kept") for column in hop.lost]
    return f"lost {', '.join(seldom)}"


def _arrival(hop: HopResult) -> str:
    if hop.arrived is None:
        return ""
    return ", arrived" if hop.arrived else ", did not arrive"


def _advice(where: str | None, advice: str | None, width: int) -> Iterator[str]:
    text = ": ".join(part for part in (where, advice) if part)
    if text:
        yield from _wrapped("    → ", text, width)


def _wrapped(first: str, text: str, width: int) -> Iterator[str]:
    yield from textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
