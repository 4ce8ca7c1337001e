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
WIDTH_FOR_TRACE_IDS: Final = 110  # an id takes 34 columns; the rest is for the message


def record_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """Records of a search, oldest of them first, as a log file would have them.

    Args:
        answer: `collector.api.shapes.LogsObject`, which is newest first.
    """
    records = answer["records"][::-1]
    drawing = RecordDrawing(width)
    for record in records:
        drawing.palette.style(record["service"])
    return [line for record in records for line in drawing.lines(record)]


class RecordDrawing:
    """Draws one record after the other; knows what stands above.

    The day is said when it changes. The trace id, which the next command needs, is never cut: it stands
    behind the message, or on a narrow terminal above it when it changes.
    """

    def __init__(self, width: int | None) -> None:
        self.palette = Palette()
        self._width = width
        self._is_narrow = width is not None and width < WIDTH_FOR_TRACE_IDS
        self._day = ""
        self._trace_id = ""

    def lines(self, record: JsonObject) -> list[Text]:
        """The record's line, with what has changed since the one before above it."""
        lines = []
        if record["timestamp"][:10] != self._day:
            self._day = record["timestamp"][:10]
            lines.append(Text(self._day, style="bold"))
        trace_id = record.get("trace_id") or ""
        if self._is_narrow and trace_id != self._trace_id:
            lines.append(Text(f"trace {trace_id}" if trace_id else "no trace", style="dim"))
        self._trace_id = trace_id
        line = self._said(record)
        if trace_id and not self._is_narrow:
            end = Text(f"  {trace_id}", style="dim")
            room = None if self._width is None else self._width - end.cell_len
            lines.append(Text.assemble(fitted(line, room), end))
        else:
            lines.append(fitted(line, self._width))
        if exception := record.get("exception"):
            title = ": ".join(clean(str(exception[key])) for key in ("type", "message") if exception.get(key))
            lines.append(fitted(Text(f"{'':<21}{title}", style="red"), self._width))
        return lines

    def _said(self, record: JsonObject) -> Text:
        line = Text.assemble(
            (time_of_day(record["timestamp"]), "dim"),
            (f"  {record['level']:<5}  ", level_style(record["level"])),
            (clean(record["service"]), self.palette.style(record["service"])),
            f"  {clean(record.get('message') or record.get('name') or '')}",
        )
        if record.get("kind") == "span":
            line.append(f"  {duration(record.get('duration_ns') or 0)}", style="dim")
        return line


def trace_list_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """Traces, newest first, each with the id that `backtrail trace` wants.

    Where the terminal is too narrow for all of it, everything else makes room for the id and the entry point.
    """
    for with_counts, brief in ((True, False), (False, False), (False, True)):
        lines = _trace_list(answer, with_counts=with_counts, brief=brief)
        if width is None or all(line.cell_len <= width for line in lines):
            break
    return [fitted(line, width) for line in lines]


def _trace_list(answer: JsonObject, *, with_counts: bool, brief: bool) -> list[Text]:
    palette = Palette(trace["service"] for trace in answer["traces"])
    started = slice(5, 16) if brief else slice(0, 23)  # month to minute, or year to millisecond
    failed = "✗" if brief else "✗ failed"
    rows = [
        [
            Text(trace["trace_id"]),
            Text(day_and_time(trace["start"])[started], style="dim"),
            Text(duration(trace["duration_ns"])),
            Text(failed, style="bold red") if trace["error"] else Text("ok", style="green"),
            *([Text(count(trace["spans"], "span")), Text(count(trace["logs"], "log"))] * with_counts),
            Text.assemble(
                (clean(trace["service"]), palette.style(trace["service"])), f" {clean(trace['name'])}"
            ),
        ]
        for trace in answer["traces"]
    ]
    when = "UTC" if brief else "started (UTC)"
    head = ["trace", when, "took", "", *(["", ""] * with_counts), "entry point"]
    return table_lines(head, rows, right={2, 4, 5} if with_counts else {2})


def facet_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """The values of a field, the most frequent first."""
    rows = [
        [Text(grouped(value["count"]), style="bold"), Text(clean(value["value"]))]
        for value in answer["values"]
    ]
    return table_lines(["records", answer["field"]], rows, right={0}, width=width)


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
            Text(length_text(item["duration_p50_ns"])),
            Text(length_text(item["duration_p95_ns"])),
        ]
        for item in answer["services"]
    ]
    head = ["service", "spans", "logs", "errors", "operations", "median", "95 %"]
    return table_lines(head, rows, right={1, 2, 3, 4, 5, 6}, width=width)


def operation_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """Every operation of a service with its counts and lengths."""
    rows = [
        [
            Text(clean(item["name"])),
            Text(grouped(item["spans"])),
            Text(grouped(item["errors"]), style="bold red" if item["errors"] else "dim"),
            *(
                Text(length_text(item[key]))
                for key in ("duration_p50_ns", "duration_p95_ns", "duration_p99_ns")
            ),
        ]
        for item in answer["operations"]
    ]
    head = ["operation", "spans", "errors", "median", "95 %", "99 %"]
    return table_lines(head, rows, right={1, 2, 3, 4, 5}, width=width)


def edge_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """Who calls whom."""
    palette = Palette(answer["services"])
    rows = [
        [
            Text(clean(edge["caller"]), style=palette.style(edge["caller"])),
            Text("→", style="dim"),
            Text(clean(edge["callee"]), style=palette.style(edge["callee"])),
            Text(grouped(edge["calls"])),
            Text(grouped(edge["errors"]), style="bold red" if edge["errors"] else "dim"),
        ]
        for edge in answer["edges"]
    ]
    return table_lines(["caller", "", "callee", "calls", "errors"], rows, right={3, 4}, width=width)


def is_whole(spool: JsonObject) -> bool:
    """Whether everything that a process wrote has arrived, as far as it has told."""
    return not (spool["missing"] or spool["losses"] or spool["refused"])


def ledger_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """Every process that sent something, and what is missing of it."""
    palette = Palette(spool["service"] for spool in answer["spools"])
    rows = []
    for spool in answer["spools"]:
        holes = [f"{len(spool['missing'])} unexplained"] if spool["missing"] else []
        holes += [
            f"{clean(str(loss.get('reason')))} {loss.get('count') or ''}".strip() for loss in spool["losses"]
        ]
        holes += [f"{number} refused: {reason}" for reason, number in spool["refused"].items()]
        rows.append(
            [
                Text(clean(spool["service"]), style=palette.style(spool["service"])),
                Text(str(spool["pid"] or "–")),
                Text(grouped(spool["lines"])),
                Text(spool["ended"] or "running", style="red" if spool["ended"] == "killed" else ""),
                Text(day_and_time(spool["last_written"])[:-4] if spool["last_written"] else "–", style="dim"),
                Text("; ".join(holes), style="bold yellow") if holes else Text("nothing", style="green"),
            ]
        )
    head = ["service", "process", "lines", "ended", "last written (UTC)", "missing"]
    return table_lines(head, rows, right={1, 2}, width=width)


def stats_lines(answer: JsonObject, *, width: int | None = None) -> list[Text]:
    """What is stored, and with a running service what it has done since its start."""
    if answer["store_error"] is None:
        facts = [
            ("records", grouped(answer["records"])),
            ("  logs", grouped(answer["logs"])),
            ("  spans", grouped(answer["spans"])),
            ("on disk", bytes_text(answer["bytes"])),
            ("partitions", grouped(answer["partitions"])),
            ("oldest", day_and_time(answer["oldest"]) if answer["oldest"] else "–"),
            ("newest", day_and_time(answer["newest"]) if answer["newest"] else "–"),
        ]
    else:
        facts = [("store", f"away: {clean(answer['store_error'])}")]
    for part in ("intake", "wal", "indexing"):
        for name, value in (answer[part] or {}).items():
            facts.append((f"{part}.{name}", grouped(value) if isinstance(value, int) else str(value)))
    rows = [[Text(name), Text(value, style="bold")] for name, value in facts]
    return table_lines(["", ""], rows, width=width)


def table_lines(
    head: Sequence[str],
    rows: Sequence[Sequence[Text]],
    *,
    right: set[int] | None = None,
    width: int | None = None,
) -> list[Text]:
    """Columns as wide as their content, those in `right` aligned as numbers; nothing without rows."""
    if not rows:
        return []
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


def length_text(length_ns: int | None) -> str:
    """A length of time; a dash where there is none."""
    return "–" if length_ns is None else duration(length_ns)


def bytes_text(size: int) -> str:
    """A size as people say it."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
