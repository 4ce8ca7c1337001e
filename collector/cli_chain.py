"""Draws a call chain: the spans as a tree, the logs in their places, times beside them. Pure.

```text
trace 5f3c…  ·  failed
gateway  POST /orders  ·  2026-11-24 05:47:11.412 UTC  ·  24.1 ms
4 services  ·  12 spans  ·  9 logs  ·  complete

    at ms   took ms
      0.0      24.1  ━━━━━━━━━━━━━━━━  gateway POST /orders  ✗ 502
      1.2                    ·         │ INFO received order-0041: 3 x lamp
      2.0      20.7   ━━━━━━━━━━━━━━   └─ orders POST /orders
```
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.text import Text

from collector.cli_text import Palette, clean, count, day_and_time, duration, fitted, wrapped
from collector.cli_tree import Row, rows

JsonObject = dict[str, Any]

BAR_CELLS: Final = 16
# Below these widths the bars, then the column of lengths, make room for what cannot be left out.
WIDTH_FOR_BARS: Final = 96
WIDTH_FOR_LENGTHS: Final = 64
DEPTH_DRAWN_MAX: Final = 40  # deeper spans are drawn flat, with their depth as a number
_SECONDS_FROM_NS: Final = 10_000_000_000  # longer traces are told in seconds

COMPLETENESS: Final = {
    "complete": ("complete", "green"),
    "open": ("still open", "yellow"),
    "gaps": ("has gaps", "yellow"),
    "unknown": ("completeness unknown", "dim"),  # its senders do not number their records
}


def chain_lines(trace: JsonObject, *, width: int | None = None, full: bool = False) -> list[Text]:
    """Draw a trace as the API gives it (`collector.api.shapes.TraceObject`).

    Args:
        width: columns; lines are cut to it with a mark. `None`: nothing is cut.
        full: whole stack traces, attributes and ids, and no folding of equal siblings.
    """
    palette = Palette(trace["services"])
    lines = _header(trace, palette, width)
    layout = _Layout(trace, palette, width)
    lines.append(Text())
    if max((node["depth"] for node in trace["nodes"]), default=0) > layout.depth_drawn_max:
        legend = f"[{layout.depth_drawn_max + 1}] is a depth: so deep, spans are no longer indented"
        lines.append(fitted(Text(legend, style="dim"), width))
    lines.extend(layout.head())
    for row in rows(trace, palette, full=full, depth_max=layout.depth_drawn_max):
        lines.append(layout.line(row))
    if trace["gaps"]:
        lines += [Text(), Text("What is missing", style="bold")]
        for gap in trace["gaps"]:
            lines += wrapped(gap["message"], width=width, indent=4, first=Text("  • ", style="yellow"))
    return lines


# ---------------------------------------------------------------- header


def _header(trace: JsonObject, palette: Palette, width: int | None) -> list[Text]:
    title = [Text.assemble("trace ", (trace["trace_id"], "bold")), _state(trace)]
    service = trace["service"] or (trace["services"] or ["?"])[0]
    what = Text.assemble((clean(service), palette.style(service)), f"  {clean(trace['name'] or 'logs only')}")
    parts = [what, Text(day_and_time(trace["start"])), Text(duration(trace["duration_ns"]))]
    word, style = COMPLETENESS[trace["completeness"]]
    if trace["completeness"] == "open" and trace["open_since"]:
        word += f" since {day_and_time(trace['open_since'])}"
    counts = [
        Text(count(len(trace["services"]), "service")),
        Text(count(trace["spans"], "span")),
        Text(count(trace["logs"], "log")),
        Text(word, style=style),
    ]
    lines = [*_flowed(title, width), *_flowed(parts, width), *_flowed(counts, width)]
    if trace["truncated"]:
        note = f"⚠ only the first {count(trace['records'], 'record')} were read; the chain is a part"
        lines += wrapped(note, width=width, indent=2, first=Text(), style="yellow")
    return lines


def _state(trace: JsonObject) -> Text:
    if trace["error"]:
        return Text("failed", style="bold red")
    unfinished = [node for node in trace["nodes"] if not node["finished"]]
    if not unfinished:
        return Text("ok", style="green")
    if trace["completeness"] == "open":
        return Text("still running", style="yellow")
    if any(node["depth"] == 0 for node in unfinished):
        return Text("never finished", style="bold red")
    is_death = any(node["process_ended"] == "killed" for node in unfinished)
    return Text("a process died" if is_death else "unfinished spans", style="bold red")


def _flowed(parts: Sequence[Text], width: int | None) -> list[Text]:
    """Join parts by dots, on as many lines as they need."""
    lines = [parts[0].copy()]
    for part in parts[1:]:
        if width is not None and lines[-1].cell_len + 5 + part.cell_len > width:
            lines.append(part.copy())
        else:
            lines[-1] = Text.assemble(lines[-1], ("  ·  ", "dim"), part)
    return [fitted(line, width) for line in lines]


# ---------------------------------------------------------------- columns


class _Layout:
    """The columns left of the tree: when, how long, and where in the whole."""

    def __init__(self, trace: JsonObject, palette: Palette, width: int | None) -> None:
        self._palette = palette
        self._width = width
        self._total_ns = max(1, trace["duration_ns"])
        self._in_seconds = self._total_ns >= _SECONDS_FROM_NS
        self._bars = width is None or width >= WIDTH_FOR_BARS
        self._lengths = width is None or width >= WIDTH_FOR_LENGTHS

    @property
    def depth_drawn_max(self) -> int:
        """How deep the tree may be drawn without taking more than half of what the columns leave."""
        if self._width is None:
            return DEPTH_DRAWN_MAX
        room = self._width - (9 + 10 * self._lengths + 2 + (BAR_CELLS + 2) * self._bars)
        return min(DEPTH_DRAWN_MAX, room // 2 // len("├─ "))

    def head(self) -> list[Text]:
        unit = "s" if self._in_seconds else "ms"
        head = f"{f'at {unit}':>9}"
        if self._lengths:
            head += f"{f'took {unit}':>10}"
        return [Text(head, style="dim")]

    def line(self, row: Row) -> Text:
        line = Text()
        line.append(f"{self._number(row.offset_ns):>9}", style="dim" if row.span is None else "")
        if self._lengths:
            line.append(f"{self._took(row.span):>10}")
        line.append("  ")
        if self._bars:
            line.append_text(self._bar(row))
            line.append("  ")
        line.append(row.guide, style="dim")
        line.append_text(row.text)
        line.rstrip()
        return fitted(line, self._width)

    def _took(self, span: JsonObject | None) -> str:
        """The length of a span; a dash where its end is not known."""
        if span is None:
            return ""
        return self._number(span["duration_ns"]) if span["finished"] else "–"

    def _number(self, length_ns: int | None) -> str:
        if length_ns is None:
            return ""
        return f"{length_ns / 1e9:.3f}" if self._in_seconds else f"{length_ns / 1e6:.1f}"

    def _bar(self, row: Row) -> Text:
        if row.offset_ns is None:
            return Text(" " * BAR_CELLS)
        at = self._cell(row.offset_ns)
        if row.span is None:
            return Text(f"{' ' * at}·{' ' * (BAR_CELLS - at - 1)}", style="dim")
        end = max(at + 1, round((row.offset_ns + row.span["duration_ns"]) / self._total_ns * BAR_CELLS))
        cells = min(end, BAR_CELLS) - at
        mark = "━" if row.span["finished"] and not row.span["inferred"] else "╌"
        style = "red" if row.span["error"] else self._palette.style(row.span["service"])
        if not row.span["critical_ns"]:
            style += " dim"  # the bright bars are the critical path
        bar = Text(" " * at)
        bar.append(mark * cells, style=style)
        bar.append(" " * (BAR_CELLS - at - cells))
        return bar

    def _cell(self, offset_ns: int) -> int:
        return min(BAR_CELLS - 1, max(0, int(offset_ns / self._total_ns * BAR_CELLS)))
