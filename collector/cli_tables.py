"""Writes search results, lists of traces and services, counts and scores. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rich.cells import cell_len
from rich.text import Text

from collector.cli_text import (
    Palette,
    clean,
    count,
    day_and_time,
    duration,
    fitted,
    grouped,
    level_style,
    time_of_day,
)

JsonObject = dict[str, Any]

COLUMN_GAP: Final = 2
MISSES_SHOWN_MAX: Final = 20


def record_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """Records of a search, oldest of them first, as a log file would have them.

    Args:
        answer: `collector.api.shapes.LogsObject`, which is newest first.
    """
    records = answer["records"][::-1]
    palette = Palette(record["service"] for record in records)
    lines: list[Text] = []
    day = ""
    for record in records:
        if record["timestamp"][:10] != day:
            day = record["timestamp"][:10]
            lines.append(Text(day, style="bold"))
        lines.append(record_line(record, palette, width=width))
        if exception := record.get("exception"):
            title = ": ".join(clean(str(exception[key])) for key in ("type", "message") if exception.get(key))
            lines.append(fitted(Text(f"{'':<20}{title}", style="red"), width))
    return lines


def record_line(record: JsonObject, palette: Palette, *, width: int | None = None) -> Text:
    """One record: time, level, service, what it says, and the trace it belongs to.

    On a narrow terminal the message is cut, never the trace id: it is what the next command needs.
    """
    line = Text.assemble(
        (time_of_day(record["timestamp"]), "dim"),
        (f"  {record['level']:<5} ", level_style(record["level"])),
        (clean(record["service"]), palette.style(record["service"])),
        f"  {clean(record.get('message') or record.get('name') or '')}",
    )
    if record.get("kind") == "span":
        line.append(f"  {duration(record.get('duration_ns') or 0)}", style="dim")
    trace_id = record.get("trace_id")
    if trace_id is None:
        return fitted(line, width)
    end = Text(f"  {trace_id}", style="dim")
    return fitted(line, None if width is None else width - end.cell_len).append_text(end)


def trace_list_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """Traces, newest first, each with the id that `backtrail trace` wants."""
    palette = Palette(trace["service"] for trace in answer["traces"])
    rows = [
        [
            Text(trace["trace_id"]),
            Text(day_and_time(trace["start"])[:-4], style="dim"),
            Text(duration(trace["duration_ns"])),
            Text("✗ failed", style="bold red") if trace["error"] else Text("ok", style="green"),
            Text(count(trace["spans"], "span")),
            Text(count(trace["logs"], "log")),
            Text.assemble(
                (clean(trace["service"]), palette.style(trace["service"])), f" {clean(trace['name'])}"
            ),
        ]
        for trace in answer["traces"]
    ]
    head = ["trace", "started (UTC)", "took", "", "", "", "entry point"]
    return table_lines(head, rows, right={2, 4, 5}, width=width)


def service_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """Every service with its counts and lengths."""
    palette = Palette(item["service"] for item in answer["services"])
    rows = [
        [
            Text(clean(item["service"]), style=palette.style(item["service"])),
            Text(grouped(item["spans"])),
            Text(grouped(item["logs"])),
            Text(grouped(item["errors"]), style="bold red" if item["errors"] else "dim"),
            Text(str(item["operations"])),
            Text(_length(item["duration_p50_ns"])),
            Text(_length(item["duration_p95_ns"])),
        ]
        for item in answer["services"]
    ]
    head = ["service", "spans", "logs", "errors", "operations", "median", "95 %"]
    return table_lines(head, rows, right={1, 2, 3, 4, 5, 6}, width=width)


def stats_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """What is stored, and with a running service what it has done since its start."""
    facts = [
        ("records", grouped(answer["records"])),
        ("  logs", grouped(answer["logs"])),
        ("  spans", grouped(answer["spans"])),
        ("on disk", _bytes(answer["bytes"])),
        ("partitions", grouped(answer["partitions"])),
        ("oldest", day_and_time(answer["oldest"]) if answer["oldest"] else "–"),
        ("newest", day_and_time(answer["newest"]) if answer["newest"] else "–"),
    ]
    for part in ("intake", "wal", "indexing"):
        for name, value in (answer[part] or {}).items():
            facts.append((f"{part}.{name}", grouped(value) if isinstance(value, int) else str(value)))
    rows = [[Text(name), Text(value, style="bold")] for name, value in facts]
    return table_lines(["", ""], rows, width=width)


def score_lines(score: JsonObject, *, width: int | None = None) -> list[Text]:
    """How often the right service came first, and which cases went wrong."""
    lines = [
        Text.assemble((f"as@{k}  ", "bold"), f"{score[f'as@{k}']:.1%}".replace("%", " %"))
        for k in (1, 3, 5)
        if score.get(f"as@{k}") is not None
    ]
    lines.append(Text(f"{count(score['cases'], 'case')} in {score['seconds']:.1f} s"))
    if score.get("false_alarms") is not None:
        lines.append(Text(count(score["false_alarms"], "false alarm")))
    missed = [case for case in score["per_case"] if case.get("service") and case.get("rank") != 1]
    if missed:
        lines += [Text(), Text("Not in first place", style="bold")]
        rows = [
            [
                Text(str(case["case"])),
                Text(str(case["service"])),
                Text("–" if case["rank"] is None else str(case["rank"])),
                Text(", ".join(case["ranking"][:5]), style="dim"),
            ]
            for case in missed[:MISSES_SHOWN_MAX]
        ]
        lines += table_lines(["case", "right", "rank", "ranking"], rows, right={2}, width=width)
        if len(missed) > MISSES_SHOWN_MAX:
            lines.append(Text(f"and {len(missed) - MISSES_SHOWN_MAX} more: --json", style="dim"))
    return lines


def table_lines(
    head: Sequence[str],
    rows: Sequence[Sequence[Text]],
    *,
    right: set[int] | None = None,
    width: int | None = None,
) -> list[Text]:
    """Columns as wide as their content; the columns in `right` are numbers and aligned so."""
    right = right or set()
    cells = [[Text(name, style="dim") for name in head], *rows] if any(head) else list(rows)
    widths = [max((row[at].cell_len for row in cells), default=0) for at in range(len(head))]
    lines = []
    for row in cells:
        line = Text()
        for at, cell in enumerate(row):
            padding = " " * (widths[at] - cell_len(cell.plain))
            line.append_text(Text.assemble(padding, cell) if at in right else Text.assemble(cell, padding))
            line.append(" " * COLUMN_GAP)
        line.rstrip()
        lines.append(fitted(line, width))
    return lines


def _length(length_ns: int | None) -> str:
    return "–" if length_ns is None else duration(length_ns)


def _bytes(size: int) -> str:
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
