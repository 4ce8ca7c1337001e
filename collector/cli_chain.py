"""Draws a call chain: the spans as a tree, the logs in their places, times beside them. Pure.

trace 5f3c…  failed
gateway  POST /orders  ·  2026-11-24 05:47:11.412 UTC  ·  24.1 ms
4 services  ·  12 spans  ·  9 logs  ·  complete

    at ms   took ms
      0.0      24.1  ━━━━━━━━━━━━━━━━  gateway  POST /orders  ✗ 502
      1.2                    ·         │ INFO received order-0041: 3 x lamp
      2.0      20.7   ━━━━━━━━━━━━━━   └─ orders  POST /orders
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from rich.text import Text

from collector.cli_text import Palette, clean, count, day_and_time, duration, fitted, level_style, wrapped
from tracing.semconv import (
    EXCEPTION_EVENT,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACKTRACE,
    EXCEPTION_TYPE,
    HTTP_RESPONSE_STATUS_CODE,
    RPC_GRPC_STATUS_CODE,
)

JsonObject = dict[str, Any]

BAR_CELLS: Final = 16
# Below these widths the bars, then the column of lengths, make room for what cannot be left out.
WIDTH_FOR_BARS: Final = 96
WIDTH_FOR_LENGTHS: Final = 64
DEPTH_DRAWN_MAX: Final = 40  # deeper spans are drawn flat, with their depth as a number
STACK_FRAME_LINES_MAX: Final = 60
PATH_PARTS_MAX: Final = 3  # of a source file; the whole path with `full`
# gRPC's status codes by number; source: gRPC core, "Status codes and their use in gRPC".
GRPC_CODES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
WORDS_CHARS_MAX: Final = 120  # of a status or an exception's message; the whole of it with `full`
_SECONDS_FROM_NS: Final = 10_000_000_000  # longer traces are told in seconds

COMPLETENESS: Final = {
    "complete": ("complete", "green"),
    "open": ("still open", "yellow"),
    "gaps": ("has gaps", "yellow"),
    "unknown": ("completeness unknown", "dim"),  # its senders do not number their records
}


class _Row(NamedTuple):
    """One line of the tree: a span, a log, or a note under one of them."""

    guide: str
    text: Text
    offset_ns: int | None = None
    span: JsonObject | None = None


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
    lines.extend(layout.head())
    for row in _rows(trace, palette, full=full, depth_max=layout.depth_drawn_max):
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
    if all(node["finished"] for node in trace["nodes"]):
        return Text("ok", style="green")
    if trace["completeness"] == "open":
        return Text("still running", style="yellow")
    return Text("never finished", style="bold red")


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

    def line(self, row: _Row) -> Text:
        line = Text()
        line.append(f"{self._number(row.offset_ns):>9}", style="dim" if row.span is None else "")
        if self._lengths:
            line.append(f"{self._number(row.span['duration_ns'] if row.span else None):>10}")
        line.append("  ")
        if self._bars:
            line.append_text(self._bar(row))
            line.append("  ")
        line.append(row.guide, style="dim")
        line.append_text(row.text)
        line.rstrip()
        return fitted(line, self._width)

    def _number(self, length_ns: int | None) -> str:
        if length_ns is None:
            return ""
        return f"{length_ns / 1e9:.3f}" if self._in_seconds else f"{length_ns / 1e6:.1f}"

    def _bar(self, row: _Row) -> Text:
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


# ---------------------------------------------------------------- tree


class _Branch:
    """A span on its way into the tree, and what hangs below it."""

    __slots__ = ("children", "enters_service", "node")

    def __init__(self, node: JsonObject, parent: _Branch | None) -> None:
        self.node = node
        self.children: list[_Branch] = []
        self.enters_service = parent is None or parent.node["service"] != node["service"]


def _rows(trace: JsonObject, palette: Palette, *, full: bool, depth_max: int) -> Iterator[_Row]:
    """Every line of the tree from top to bottom; never recurses, chains may be deep."""
    stack: list[tuple[_Branch | JsonObject | _Row, str, str]] = []
    roots = _branches(trace["nodes"])
    items = sorted([*roots, *trace["stray_logs"]], key=_offset_ns)
    stack.extend((item, "", "") for item in reversed(items))
    while stack:
        item, guide, below = stack.pop()
        if isinstance(item, _Row):
            yield item
        elif isinstance(item, _Branch):
            yield _Row(guide, _span_text(item, palette, full=full), item.node["offset_ns"], item.node)
            inner = _inside(item, below, full=full, depth_max=depth_max)
            has_children = any(isinstance(entry[0], _Branch) for entry in inner)
            for note in _notes(item.node, full=full):
                yield _Row(below + ("│ " if has_children else "  "), note)
            stack.extend(reversed(inner))
        else:
            yield _Row(guide, _log_text(item), item["offset_ns"])
            for note in _exception_lines(item.get("exception"), full=full):
                yield _Row(f"{guide}  ", note)


def _inside(
    branch: _Branch, below: str, *, full: bool, depth_max: int
) -> list[tuple[_Branch | JsonObject | _Row, str, str]]:
    """What is drawn below a span, in order of time, each with its guide and the guide of what is below it."""
    children, folded = (branch.children, {}) if full else _folded(branch.children)
    items = sorted([*branch.node["logs"], *children], key=_offset_ns)
    last_child = max((at for at, item in enumerate(items) if isinstance(item, _Branch)), default=-1)
    drawn: list[tuple[_Branch | JsonObject | _Row, str, str]] = []
    deep = branch.node["depth"] >= depth_max
    for at, item in enumerate(items):
        if not isinstance(item, _Branch):
            drawn.append((item, below + ("│ " if at < last_child else "  "), ""))
            continue
        if deep:
            drawn.append((item, f"{below}[{item.node['depth']}] ", below))
        else:
            turn, onward = ("└─ ", "   ") if at == last_child else ("├─ ", "│  ")
            drawn.append((item, below + turn, below + onward))
        if note := folded.get(id(item)):
            drawn.append((_Row(below + ("│  " if at < last_child else "   "), note), "", ""))
    return drawn


def _branches(nodes: Sequence[JsonObject]) -> list[_Branch]:
    """The forest of the flat list, whose order and depths are the relation."""
    roots: list[_Branch] = []
    path: list[_Branch] = []
    for node in nodes:
        del path[node["depth"] :]
        branch = _Branch(node, path[-1] if path else None)
        (path[-1].children if path else roots).append(branch)
        path.append(branch)
    return roots


def _folded(children: list[_Branch]) -> tuple[list[_Branch], dict[int, Text]]:
    """Leave out the siblings that the chain marks as alike; a note by the one that stands for them.

    The mark (`siblings_folded`) is on the first of a run and counts those behind it.
    """
    kept: list[_Branch] = []
    notes: dict[int, Text] = {}
    at = 0
    while at < len(children):
        first = children[at]
        hidden = children[at + 1 : at + 1 + first.node["siblings_folded"]]
        kept.append(first)
        at += 1 + len(hidden)
        if hidden:
            lengths = [branch.node["duration_ns"] for branch in hidden]
            text = f"× {len(hidden)} more like it, {duration(min(lengths))} – {duration(max(lengths))} each"
            notes[id(first)] = Text(text, style="dim")
    return kept, notes


def _offset_ns(item: _Branch | JsonObject) -> int:
    offset: int = (item.node if isinstance(item, _Branch) else item)["offset_ns"]
    return offset


# ---------------------------------------------------------------- one line


def _span_text(branch: _Branch, palette: Palette, *, full: bool) -> Text:
    node = branch.node
    text = Text()
    if branch.enters_service or full:  # told once, so that the way from process to process stands out
        text.append(f"{clean(node['service'])} ", style=palette.style(node["service"]))
    text.append(clean(node["name"]))
    kind = (node["span_kind"] or "").lower()
    if kind in ("client", "producer", "consumer"):
        text.append(f"  {kind}", style="dim")
    if node["error"]:
        text.append(f"  ✗ {_outcome(node)}".rstrip(), style="bold red")
    if node["inferred"]:
        text.append("  (its own record never arrived)", style="yellow")
    elif not node["finished"]:
        ended = node.get("process_ended")
        text.append(f"  … never ended{f', its process was {ended}' if ended else ''}", style="bold yellow")
    if node["skew_ns"]:
        text.append(f"  clock off by ≈ {duration(-node['skew_ns'])}", style="dim")
    if full:
        text.append(f"  {node['span_id']}", style="dim")
    return text


def _outcome(node: JsonObject) -> str:
    """What a person would call the failure: the code, or the status's own words if no exception has them."""
    http, grpc = (node["attributes"].get(key) for key in (HTTP_RESPONSE_STATUS_CODE, RPC_GRPC_STATUS_CODE))
    if http is not None:
        return str(http)
    said = "" if exception_of(node) else _first_line(node["status"].get("message"))
    if isinstance(grpc, int) and 0 <= grpc < len(GRPC_CODES):
        return f"{GRPC_CODES[grpc]} {said}".rstrip()
    return said


def _log_text(log: JsonObject) -> Text:
    return Text.assemble((f"{log['level']} ", level_style(log["level"])), clean(log.get("message") or ""))


def _notes(node: JsonObject, *, full: bool) -> Iterator[Text]:
    """Lines under a span: its exception, and with `full` its attributes, events and links."""
    yield from _exception_lines(exception_of(node), full=full)
    if not full:
        return
    for key, value in sorted(node["attributes"].items()):
        yield Text(f"{clean(key)} = {clean(str(value))}", style="dim")
    for event in node["events"]:
        if event["name"] != EXCEPTION_EVENT:
            yield Text(f"event {clean(event['name'])} {clean(str(event.get('attributes') or ''))}".rstrip())
    for link in node["links"]:
        yield Text(f"follows from {link['trace_id']} {link['span_id']}")


def exception_of(node: JsonObject) -> JsonObject | None:
    """The exception that a span recorded, as a record line has it, from its own key or its events."""
    if node["exception"]:
        own: JsonObject = node["exception"]
        return own
    for event in node["events"]:
        if event["name"] == EXCEPTION_EVENT:
            attributes = event.get("attributes") or {}
            return {
                "type": attributes.get(EXCEPTION_TYPE),
                "message": attributes.get(EXCEPTION_MESSAGE),
                "stacktrace": attributes.get(EXCEPTION_STACKTRACE),
            }
    return None


def _exception_lines(exception: JsonObject | None, *, full: bool) -> Iterator[Text]:
    if not exception:
        return
    stack = [line for line in str(exception.get("stacktrace") or "").splitlines() if line.strip()]
    if full and stack:
        for line in stack[-STACK_FRAME_LINES_MAX:]:
            yield Text(clean(line), style="red")
        return
    title = ": ".join(filter(None, (_first_line(exception.get(key)) for key in ("type", "message"))))
    yield Text(title or "exception", style="red")
    if place := _last_frame(stack):
        yield Text(f"at {place}", style="red dim")


def _last_frame(stack: Sequence[str]) -> str | None:
    """`file:line in function` of the innermost frame of Python's stack trace."""
    for line in reversed(stack):
        words = line.strip()
        if words.startswith('File "'):
            path, _, rest = words.removeprefix('File "').partition('", line ')
            number, _, function = rest.partition(", in ")
            short = "/".join(path.split("/")[-PATH_PARTS_MAX:])
            return clean(f"{short}:{number} in {function}")
    return None


def _first_line(text: object) -> str:
    """The beginning of somebody else's text: what fits beside a span, with a mark when there is more."""
    lines = str(text or "").strip().splitlines() or [""]
    line = clean(lines[0])
    is_cut = len(lines) > 1 or len(line) > WORDS_CHARS_MAX
    return f"{line[:WORDS_CHARS_MAX].rstrip()} …" if is_cut else line
