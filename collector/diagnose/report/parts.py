"""Pieces of the page: escaped texts, and drawings in SVG. Pure."""

from __future__ import annotations

import math
from html import escape
from typing import Any, Final

from collector.diagnose.findings import length

JsonObject = dict[str, Any]

WIDTH: Final = 660  # of a chart, in the units of its viewBox
HEIGHT: Final = 150
AXIS: Final = 22  # below it, for the labels
TOP: Final = 14
SERVICE_COLOURS: Final = 8  # classes s0 … s7 of the style sheet

# Characters that no text on a page should have: they could reverse what a person reads.
_DECEIVING: Final = dict.fromkeys(
    [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
del _DECEIVING[ord("\n")], _DECEIVING[ord("\t")]


def text(value: object) -> str:
    """Any value as text that is safe in HTML, in an element and in an attribute."""
    said = str(value).translate(_DECEIVING).encode("utf-8", "replace").decode()
    return escape(said, quote=True)


class Services:
    """Gives each service its colour, in order of appearance."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def chip(self, service: str) -> str:
        """The name of a service on its colour."""
        return f'<span class="service s{self.number(service)}">{text(service)}</span>'

    def number(self, service: str) -> int:
        """Which colour a service has."""
        return self._numbers.setdefault(service, len(self._numbers) % SERVICE_COLOURS)


def quantity(value: float | None, unit: str) -> str:
    """A figure as a person says it; a dash where there is none."""
    if value is None:
        return "–"
    if unit == "ns":
        return length(value)
    if unit == "share":
        return f"{100 * value:.3g} %"
    return f"{value:.3g}" if unit == "each" else f"{value:.0f}"


def histogram(distribution: JsonObject) -> str:
    """Two distributions in one drawing: what is asked about in front of what is healthy."""
    buckets = distribution["buckets"]
    if not buckets:
        return ""
    low, high = math.log2(buckets[0]["from_ns"]), math.log2(buckets[-1]["to_ns"])
    high = max(high, low + 1.0)

    def x(ns: float) -> float:
        return (math.log2(ns) - low) / (high - low) * WIDTH

    bars = [
        _bars(buckets, "baseline", distribution["baseline_count"], x),
        _bars(buckets, "window", distribution["window_count"], x),
    ]
    marks = [
        f'<line class="median {name}" x1="{x(ns):.1f}" x2="{x(ns):.1f}" y1="{TOP}" y2="{HEIGHT}"/>'
        for name in ("baseline", "window")
        if (ns := distribution[f"{name}_median_ns"])
    ]
    label = f"{distribution['what']}: here {distribution['window_count']}, healthy"
    return (
        f'<svg class="chart" role="img" aria-label="{text(label)} {distribution["baseline_count"]}" '
        f'viewBox="0 -2 {WIDTH} {HEIGHT + AXIS + 2}">'
        f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}"/>'
        f"{''.join(bars)}{''.join(marks)}{_ticks(low, high)}</svg>"
    )


def _bars(buckets: list[JsonObject], name: str, count: int, x: Any) -> str:
    highest = max(
        (bucket[kind] / whole for kind, whole in _wholes(buckets) for bucket in buckets if whole), default=0
    )
    drawn = []
    for bucket in buckets:
        if not bucket[name] or not count or not highest:
            continue
        tall = max(2.0, bucket[name] / count / highest * (HEIGHT - TOP))
        left, right = x(bucket["from_ns"]), x(bucket["to_ns"])
        title = f"{length(bucket['from_ns'])} to {length(bucket['to_ns'])}: {bucket[name]} of {count}"
        drawn.append(
            f'<rect class="{name}" x="{left:.1f}" y="{HEIGHT - tall:.1f}" '
            f'width="{max(1.5, right - left - 0.6):.1f}" height="{tall:.1f}">'
            f"<title>{text(title)}</title></rect>"
        )
    return "".join(drawn)


def _wholes(buckets: list[JsonObject]) -> list[tuple[str, int]]:
    return [(name, sum(bucket[name] for bucket in buckets)) for name in ("window", "baseline")]


def _ticks(low: float, high: float) -> str:
    """Labels at round lengths: every power of ten, or halves of an octave where the range is short."""
    tens = [
        10.0**power for power in range(math.ceil(low * math.log10(2)), math.floor(high * math.log10(2)) + 1)
    ]
    wanted = tens if len(tens) >= 3 else [2 ** (low + (high - low) * part / 4) for part in range(5)]
    drawn = []
    for ns in wanted:
        at = (math.log2(ns) - low) / (high - low) * WIDTH
        anchor = "start" if at < 20 else "end" if at > WIDTH - 20 else "middle"
        drawn.append(
            f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{HEIGHT}" y2="{HEIGHT + 4}"/>'
            f'<text x="{at:.1f}" y="{HEIGHT + 17}" text-anchor="{anchor}">{text(length(ns))}</text>'
        )
    return "".join(drawn)
