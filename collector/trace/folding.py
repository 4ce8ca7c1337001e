"""Runs of siblings that say the same thing, so that a display can write "120 x SELECT"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from collector.model import SpanNode

RUN_MIN: Final = 3  # two alike are still quicker to read than to unfold


def fold_siblings(nodes_up: Sequence[SpanNode]) -> None:
    """Mark the first of each run of siblings alike with how many follow.

    Alike are spans of the same service, operation and kind with the same spans below them, finished
    and without an error: nothing that a person has to see is ever folded away.

    Args:
        nodes_up: every node, children before their parents.
    """
    numbers: dict[tuple[object, ...], int] = {}
    shapes: dict[int, int] = {}  # of a node's identity: the number of its shape; -1: like no other
    for node in nodes_up:
        below = tuple(shapes[id(child)] for child in node.children)
        if node.record.is_error or not node.finished or -1 in below or any(log.is_error for log in node.logs):
            shapes[id(node)] = -1
        else:
            shape = (node.service, node.name, node.record.span_kind, len(node.logs), below)
            shapes[id(node)] = numbers.setdefault(shape, len(numbers))
        _mark_runs(node.children, below)


def _mark_runs(siblings: Sequence[SpanNode], shapes: Sequence[int]) -> None:
    start = 0
    for at in range(1, len(siblings) + 1):
        if at < len(siblings) and shapes[at] == shapes[start] and shapes[at] != -1:
            continue
        if at - start >= RUN_MIN:
            siblings[start].siblings_folded = at - start - 1
        start = at
