"""Who called whom: one node a span, its parent, its logs; and which relations cannot be true.

Nothing is guessed. A relation is one that a record states; a parent that never arrived is put in as a
placeholder, so that what is known to hang together stays together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from collector.model import Gap, Record, SpanNode
from tracing.semconv import SEVERITY_NUMBERS

UNKNOWN_SERVICE = "?"
_UNSAMPLED = 0  # trace flags of a span that was left out on purpose


class Relations(msgspec.Struct, kw_only=True):
    """Nodes with their children and logs in place, not yet in order, and what was odd about them."""

    nodes: list[SpanNode]
    roots: list[SpanNode]
    parents: list[int]  # index of each node's parent in `nodes`; -1: it is a root
    stray_logs: list[Record]
    gaps: list[Gap]


def relate(trace_id: str, records: Iterable[Record]) -> Relations:
    """Put every span below its parent and every log line at its span."""
    spans: dict[str, list[Record]] = defaultdict(list)
    starts: dict[str, Record] = {}
    logs: list[Record] = []
    for record in records:
        if record.kind == "span" and record.span_id:
            spans[record.span_id].append(record)
        elif record.kind == "span_start" and record.span_id:
            starts.setdefault(record.span_id, record)
        elif record.kind == "log":
            logs.append(record)
    gaps: list[Gap] = []
    nodes: list[SpanNode] = []
    index = _Index()
    for same_id in spans.values():
        for record in _halves(same_id, gaps):
            index.add(record, len(nodes))
            nodes.append(SpanNode(record=record))
    for span_id, record in starts.items():
        if span_id not in spans:
            index.add(record, len(nodes))
            nodes.append(SpanNode(record=record, finished=False))
    stray = _attach_logs(trace_id, logs, nodes, index, gaps)
    parents = _parents(trace_id, nodes, index, gaps)
    _break_cycles(nodes, parents, gaps)
    roots = []
    for node, parent in zip(nodes, parents, strict=True):
        if parent < 0:
            roots.append(node)
        else:
            nodes[parent].children.append(node)
    return Relations(nodes=nodes, roots=roots, parents=parents, stray_logs=stray, gaps=gaps)


class _Index:
    """Finds a span's node by id; where client and server share an id (B3), by service as well."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._server_half: dict[str, tuple[str, int]] = {}

    def add(self, record: Record, at: int) -> None:
        assert record.span_id is not None
        if record.span_id in self._first:
            self._server_half[record.span_id] = (record.service, at)
        else:
            self._first[record.span_id] = at

    def find(self, span_id: str, service: str) -> int | None:
        """The node that a record of `service` means by this id."""
        half = self._server_half.get(span_id)
        if half is not None and half[0] == service:
            return half[1]
        return self._first.get(span_id)

    def client_half(self, record: Record, at: int) -> int | None:
        """Of the server half of a shared id: the client half, which is its parent."""
        if record.span_id in self._server_half and self._server_half[record.span_id][1] == at:
            return self._first[record.span_id]
        return None


def _halves(same_id: Sequence[Record], gaps: list[Gap]) -> list[Record]:
    """What to keep of the records with one span id: one, or the two halves of a shared span.

    Of several that differ we keep the one that ends last: tracers that report a span more than once
    report it more completely each time.
    """
    if len(same_id) == 1:
        return list(same_id)
    client = [record for record in same_id if record.span_kind == "CLIENT"]
    server = [record for record in same_id if record.span_kind == "SERVER"]
    if client and server and len(client) + len(server) == len(same_id):
        return [_latest(client, gaps), _latest(server, gaps)]
    return [_latest(same_id, gaps)]


def _latest(same: Sequence[Record], gaps: list[Gap]) -> Record:
    kept = max(same, key=lambda record: (record.end_ns, -record.timestamp_ns, record.uid))
    different = sum(_content(record) != _content(kept) for record in same)
    if different:
        gaps.append(
            Gap(
                kind="duplicate_span",
                message=f"{different + 1} different spans call themselves {kept.span_id}; "
                f"the one that ends last is shown: {kept.name} in {kept.service}",
                span_id=kept.span_id,
                service=kept.service,
                count=different,
            )
        )
    return kept


def _content(record: Record) -> tuple[object, ...]:
    """What makes two reports of a span the same report."""
    return (
        record.service, record.name, record.span_kind, record.parent_span_id,
        record.timestamp_ns, record.duration_ns, record.status,
    )  # fmt: skip


def _attach_logs(
    trace_id: str, logs: Sequence[Record], nodes: list[SpanNode], index: _Index, gaps: list[Gap]
) -> list[Record]:
    """Put each log line at its span, making the span up where only its lines arrived."""
    stray = []
    orphans: dict[str, list[Record]] = defaultdict(list)
    for log in logs:
        if log.span_id is None:
            stray.append(log)
            continue
        at = index.find(log.span_id, log.service)
        if at is None:
            orphans[log.span_id].append(log)
        else:
            nodes[at].logs.append(log)
    for span_id, lines in orphans.items():
        lines.sort(key=lambda log: (log.timestamp_ns, log.uid))
        node = _inferred(trace_id, span_id, lines[0].service, lines)
        node.logs = lines
        index.add(node.record, len(nodes))
        nodes.append(node)
        if lines[0].trace_flags is not None and lines[0].trace_flags & 1 == _UNSAMPLED:
            continue  # sampling left the span out: nothing is missing
        gaps.append(
            Gap(
                kind="missing_parent",
                message=f"span {span_id} of {lines[0].service} never arrived; "
                f"it is known by {len(lines)} log lines",
                span_id=span_id,
                service=lines[0].service,
                count=len(lines),
            )
        )
    return stray


def _parents(trace_id: str, nodes: list[SpanNode], index: _Index, gaps: list[Gap]) -> list[int]:
    """Index of each node's parent; grows `nodes` by the parents that are named but not there."""
    parents: list[int] = []
    missing: dict[str, list[int]] = defaultdict(list)
    for at, node in enumerate(nodes):
        record = node.record
        half = index.client_half(record, at)
        parent = half
        if half is None and record.parent_span_id is not None:
            parent = index.find(record.parent_span_id, record.service)
            if parent is None:
                missing[record.parent_span_id].append(at)
        parents.append(-1 if parent is None else parent)
    for span_id, children in missing.items():
        known = [nodes[at].record for at in children]
        # A child that is not an entry into its service was called within it.
        inside = [record for record in known if record.span_kind not in ("SERVER", "CONSUMER")]
        service = inside[0].service if inside else UNKNOWN_SERVICE
        for at in children:
            parents[at] = len(nodes)
        nodes.append(_inferred(trace_id, span_id, service, known))
        parents.append(-1)
        gaps.append(
            Gap(
                kind="missing_parent",
                message=f"span {span_id} never arrived; "
                f"{len(children)} spans name it as their parent, the first is {known[0].name} "
                f"in {known[0].service}",
                span_id=span_id,
                service=None if service == UNKNOWN_SERVICE else service,
                count=len(children),
            )
        )
    return parents


def _inferred(trace_id: str, span_id: str, service: str, known: Sequence[Record]) -> SpanNode:
    """A placeholder that lasts as long as what is known to have happened in it."""
    start_ns = min(record.timestamp_ns for record in known)
    end_ns = max(record.end_ns for record in known)
    resource = next((record.resource for record in known if record.service == service), {})
    return SpanNode(
        record=Record(
            uid=f"inferred-{trace_id}-{span_id}",
            kind="span",
            timestamp_ns=start_ns,
            duration_ns=end_ns - start_ns,
            level="INFO",
            severity_number=SEVERITY_NUMBERS["INFO"],
            service=service,
            trace_id=trace_id,
            span_id=span_id,
            resource=resource,
        ),
        inferred=True,
    )


def _break_cycles(nodes: list[SpanNode], parents: list[int], gaps: list[Gap]) -> None:
    """Make the earliest span of each ring of parents a root, and say so."""
    done = bytearray(len(nodes))  # 0: not seen, 1: on the way that is walked now, 2: leads to a root
    for first in range(len(nodes)):
        way = []
        at = first
        while at >= 0 and not done[at]:
            done[at] = 1
            way.append(at)
            at = parents[at]
        if at >= 0 and done[at] == 1:
            ring = way[way.index(at) :]
            top = min(ring, key=lambda i: (nodes[i].record.timestamp_ns, nodes[i].span_id))
            record = nodes[top].record
            parents[top] = -1
            gaps.append(
                Gap(
                    kind="cycle",
                    message=f"{len(ring)} spans name each other as parents in a ring; "
                    f"its earliest, {record.name} in {record.service}, is shown as a root"
                    if len(ring) > 1
                    else f"{record.name} in {record.service} names itself as its parent",
                    span_id=record.span_id,
                    service=record.service,
                    count=len(ring),
                )
            )
        for at in way:
            done[at] = 2
