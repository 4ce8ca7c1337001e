"""The shape of a drawn chain: which line comes when, and the guides that tie it to its parent. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rich.text import Text

from collector.cli_span import exception_lines, log_text, span_notes, span_text
from collector.cli_text import Palette, duration

JsonObject = dict[str, Any]


class Row(NamedTuple):
    """One line of the tree: a span, a log, or a note under one of them."""

    guide: str
    text: Text
    offset_ns: int | None = None
    span: JsonObject | None = None


class _Branch:
    """A span on its way into the tree, and what hangs below it."""

    __slots__ = ("children", "enters_service", "node")

    def __init__(self, node: JsonObject, parent: _Branch | None) -> None:
        self.node = node
        self.children: list[_Branch] = []
        self.enters_service = parent is None or parent.node["service"] != node["service"]


# What is still to be drawn, the guide in front of it, and the guide in front of what hangs below it.
_Entry = tuple[_Branch | JsonObject | Row, str, str]


def rows(trace: JsonObject, palette: Palette, *, full: bool, depth_max: int) -> Iterator[Row]:
    """Every line of the tree from top to bottom; never recurses, chains may be deep.

    Args:
        full: whole stack traces, attributes and ids, and no folding of equal siblings.
        depth_max: spans below it are drawn flat, with their depth as a number.
    """
    stack: list[_Entry] = []
    roots = _branches(trace["nodes"])
    items = sorted([*roots, *trace["stray_logs"]], key=_offset_ns)
    stack.extend((item, "", "") for item in reversed(items))
    while stack:
        item, guide, below = stack.pop()
        if isinstance(item, Row):
            yield item
        elif isinstance(item, _Branch):
            yield Row(
                guide,
                span_text(item.node, palette, with_service=item.enters_service or full, full=full),
                item.node["offset_ns"],
                item.node,
            )
            inner = _inside(item, below, full=full, depth_max=depth_max)
            has_children = any(isinstance(entry[0], _Branch) for entry in inner)
            for note in span_notes(item.node, full=full):
                yield Row(below + ("│ " if has_children else "  "), note)
            stack.extend(reversed(inner))
        else:
            yield Row(guide, log_text(item), item["offset_ns"])
            for note in exception_lines(item.get("exception"), full=full):
                yield Row(f"{guide}  ", note)


def _inside(branch: _Branch, below: str, *, full: bool, depth_max: int) -> list[_Entry]:
    """What is drawn below a span, in order of time, each with its guide and the guide of what is below it."""
    children, folded = (branch.children, {}) if full else _folded(branch.children)
    items = sorted([*branch.node["logs"], *children], key=_offset_ns)
    last_child = max((at for at, item in enumerate(items) if isinstance(item, _Branch)), default=-1)
    drawn: list[_Entry] = []
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
            drawn.append((Row(below + ("│  " if at < last_child else "   "), note), "", ""))
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
