"""What each span did with its time: when it ran, what of that was its own, what the trace waited for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from collector.model import SpanNode
from collector.trace.skew import Skew, clock_of


def set_times(nodes_up: Sequence[SpanNode], skews: Mapping[Hashable, Skew]) -> None:
    """Set start and end, corrected, and put children and logs in order.

    Args:
        nodes_up: every node, children before their parents.
    """
    for node in nodes_up:
        record = node.record
        skew = skews.get(clock_of(record)) if skews else None
        if skew is not None:
            node.skew_ns, node.skew_bound_ns = skew.shift_ns, skew.bound_ns
        node.start_ns = record.timestamp_ns + node.skew_ns
        node.end_ns = record.end_ns + node.skew_ns
        if len(node.logs) > 1:
            node.logs.sort(key=lambda log: (log.timestamp_ns, log.uid))
        if len(node.children) > 1:
            node.children.sort(key=lambda child: (child.start_ns, -child.end_ns, child.span_id))
        if node.inferred:
            node.start_ns = _first_known(node)
        if node.inferred or not node.finished:
            node.end_ns = max(node.end_ns, *_last_known(node))


def _first_known(node: SpanNode) -> int:
    """When the first log line was written or the first child started, whichever is known."""
    known = [child.start_ns for child in node.children[:1]]
    known += [log.timestamp_ns + node.skew_ns for log in node.logs[:1]]
    return min(known, default=node.start_ns)


def _last_known(node: SpanNode) -> tuple[int, int]:
    """When the last log line was written and the last child ended."""
    log_ns = node.logs[-1].timestamp_ns + node.skew_ns if node.logs else node.start_ns
    return log_ns, max((child.end_ns for child in node.children), default=node.start_ns)


def set_self_times(nodes: Sequence[SpanNode]) -> None:
    """Set each span's duration without the union of its children's intervals."""
    for node in nodes:
        covered = 0
        reached = node.start_ns
        for child in node.children:  # in order of their starts
            start = max(child.start_ns, reached)
            end = min(child.end_ns, node.end_ns)
            if end > start:
                covered += end - start
                reached = end
        node.self_time_ns = node.duration_ns - covered


def set_critical(roots: Sequence[SpanNode]) -> None:
    """Set how much of each root's duration only this span explains.

    From a span's end backwards, the child that ended last was waited for; before that child's start,
    the one that ended last before it; what no such child covers is the span's own. The shares of a
    chain add up to its root's duration.

    Source: Zhang et al. 2022, "CRISP: Critical Path Analysis of Large-Scale Microservice Architectures".
    """
    work = [(root, root.start_ns, root.end_ns) for root in roots]
    while work:
        node, start, top = work.pop()
        until = top
        for child in sorted(node.children, key=lambda child: child.end_ns, reverse=True):
            child_end = min(child.end_ns, until)
            child_start = max(child.start_ns, start)
            if child.end_ns > until and until < top:
                continue  # it ran beside the child that was waited for
            if child_end <= child_start:
                continue
            node.critical_ns += until - child_end
            work.append((child, child_start, child_end))
            until = child_start
        node.critical_ns += until - start
