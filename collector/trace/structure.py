"""Whether spans stand in a call chain as a search asks. Pure; never recurses."""

from __future__ import annotations

from collector.model import SpanNode, Trace
from collector.store.conditions import Condition, Structure, counted, matches


def has_structure(trace: Trace, structure: Structure) -> bool:
    """Whether the chain has spans for all steps of a structure, each below the one of the step before.

    The chain is the one that people see: a parent that never arrived is a link in it that no step matches.
    """
    steps = [counted(step) for step in structure.steps]
    last = 1 << len(steps) - 1
    direct = sum(1 << number for number, is_direct in enumerate(structure.direct) if is_direct)
    # For each span on the way down, as bits: the steps that it fulfils, and those that it or one above does.
    way: list[tuple[int, int]] = []
    for node in trace.walk():
        del way[node.depth :]
        of_parent, of_any = way[-1] if way else (0, 0)
        possible = 1 | of_parent << 1 & direct | of_any << 1 & ~direct
        fulfilled = _fulfilled(node, steps, possible)
        if fulfilled & last:
            return True
        way.append((fulfilled, of_any | fulfilled))
    return False


def _fulfilled(node: SpanNode, steps: list[Condition], possible: int) -> int:
    """Those of the possible steps that the span itself or one of its log lines matches, as bits."""
    records = node.logs if node.inferred else [node.record, *node.logs]
    return sum(
        1 << number
        for number, step in enumerate(steps)
        if possible >> number & 1 and any(matches(step, record) for record in records)
    )


__all__ = ["has_structure"]
