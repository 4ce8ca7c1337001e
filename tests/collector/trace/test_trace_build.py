"""The call chain: every relation that a record states, none that it does not, and what is missing by name."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from collector.diagnose.evaluate import read_traces
from collector.model import Gap, Link, Record, SpanNode, Status, Trace, TraceStatus
from collector.receive.files import read_records
from collector.trace.build import build_trace

TRACE_ID = "ab" * 16
MS = 1_000_000


def span(
    number: int,
    parent: int | None = None,
    *,
    start_ms: float = 0.0,
    end_ms: float = 10.0,
    service: str = "a",
    kind: str | None = None,
    uid: str | None = None,
    host: str | None = None,
    **more: object,
) -> Record:
    fields = {
        "uid": uid or f"s{number}",
        "kind": "span",
        "timestamp_ns": 1_000_000 * MS + round(start_ms * MS),
        "duration_ns": round((end_ms - start_ms) * MS),
        "level": "INFO",
        "severity_number": 9,
        "service": service,
        "trace_id": TRACE_ID,
        "span_id": f"{number:016x}",
        "parent_span_id": None if parent is None else f"{parent:016x}",
        "name": f"op{number}",
        "span_kind": kind,
        "resource": {"host.name": host} if host else {},
    }
    return Record(**(fields | more))


def started(number: int, parent: int | None = None, **more: object) -> Record:
    record = span(number, parent, uid=f"{'cd' * 16}-{number}", **more)  # type: ignore[arg-type]
    return structs.replace(record, kind="span_start", duration_ns=None)


def log(number: int, at: int | None, *, at_ms: float = 1.0, service: str = "a", **more: object) -> Record:
    fields = {
        "uid": f"l{number}",
        "timestamp_ns": 1_000_000 * MS + round(at_ms * MS),
        "level": "INFO",
        "severity_number": 9,
        "service": service,
        "trace_id": TRACE_ID,
        "span_id": None if at is None else f"{at:016x}",
        "message": f"line {number}",
    }
    return Record(**(fields | more))


def build(records: Iterable[Record], status: TraceStatus | None = None) -> Trace:
    return build_trace(TRACE_ID, list(records), status=status)


def relations(trace: Trace) -> set[tuple[str, str]]:
    """(child, parent) of every relation in the chain."""
    return {(child.span_id, node.span_id) for node in trace.walk() for child in node.children}


def by_id(trace: Trace) -> dict[str, SpanNode]:
    return {node.span_id: node for node in trace.walk()}


def kinds(trace: Trace) -> list[str]:
    return sorted(gap.kind for gap in trace.gaps)


def test_spans_and_logs_find_their_places() -> None:
    """A chain whose records come in any order."""
    records = [log(1, 3), span(3, 2, start_ms=3), span(2, 1, start_ms=2), log(2, 1), span(1)]
    trace = build(records)
    [root] = trace.roots
    assert [(node.name, node.depth) for node in root.walk()] == [("op1", 0), ("op2", 1), ("op3", 2)]
    assert [entry.uid for entry in by_id(trace)[f"{3:016x}"].logs] == ["l1"]
    assert (trace.records, trace.gaps, trace.stray_logs) == (5, [], [])


def test_children_are_in_order_of_time() -> None:
    """Whatever order they arrived in."""
    trace = build([span(3, 1, start_ms=5), span(1), span(2, 1, start_ms=2)])
    assert [child.name for child in trace.roots[0].children] == ["op2", "op3"]


def test_a_chain_from_logs_alone() -> None:
    """Each span that a line names is put in, as long as its lines; no relation is invented."""
    trace = build([log(1, 7, at_ms=1), log(2, 7, at_ms=4), log(3, 8, at_ms=2, service="b"), log(4, None)])
    first, second = trace.roots
    assert (first.service, first.inferred, first.duration_ns) == ("a", True, 3 * MS)
    assert (second.service, len(second.logs)) == ("b", 1)
    assert [entry.uid for entry in trace.stray_logs] == ["l4"]
    assert kinds(trace) == ["missing_parent", "missing_parent"]


def test_lines_of_a_span_that_sampling_left_out_miss_nothing() -> None:
    """The trace flags say that there never was a span."""
    trace = build([log(1, 7, trace_flags=0)])
    assert trace.roots[0].inferred
    assert trace.gaps == []


def test_a_parent_that_never_came_is_put_in() -> None:
    """Its children stay together, below a placeholder that lasts as long as they do."""
    trace = build([span(2, 9, start_ms=2, end_ms=4), span(3, 9, start_ms=3, end_ms=8), log(1, 9, at_ms=1)])
    [root] = trace.roots
    assert (root.inferred, root.span_id, root.service) == (True, f"{9:016x}", "a")
    assert [child.name for child in root.children] == ["op2", "op3"]
    assert (root.start_ns, root.end_ns) == ((1_000_000 + 1) * MS, (1_000_000 + 8) * MS)
    [gap] = trace.gaps
    assert (gap.kind, gap.span_id, gap.service) == ("missing_parent", f"{9:016x}", "a")


def test_the_service_of_a_missing_parent_is_not_guessed_from_an_entry() -> None:
    """A server span was called by somebody, and nothing says by whom."""
    trace = build([span(2, 9, kind="SERVER")])
    assert trace.roots[0].service == "?"
    assert trace.gaps[0].service is None


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_ring_of_parents_is_opened_at_its_earliest_span(size: int) -> None:
    """A span cannot be its own ancestor; everything else of the ring is kept."""
    ring = [span(n, (n + 1) % size, start_ms=10 - n, end_ms=20) for n in range(size)]
    trace = build([*ring, span(77, 0, start_ms=12)])
    [root] = trace.roots
    assert root.name == f"op{size - 1}"
    assert len(list(trace.walk())) == size + 1
    [gap] = trace.gaps
    assert (gap.kind, gap.count) == ("cycle", size)


def test_of_two_spans_with_one_id_the_longer_is_kept_and_the_other_named() -> None:
    """An equal copy is nothing; a different one is told."""
    copies = [span(1), span(1, uid="copy")]
    assert build(copies).gaps == []
    trace = build([*copies, span(1, end_ms=99, uid="other"), span(2, 1)])
    assert trace.roots[0].duration_ns == 99 * MS
    assert [child.name for child in trace.roots[0].children] == ["op2"]
    [gap] = trace.gaps
    assert (gap.kind, gap.count) == ("duplicate_span", 2)


def test_client_and_server_that_share_an_id_are_two_spans() -> None:
    """B3 lets both halves of a call have one id: the server's half belongs below the client's."""
    halves = [
        span(1, kind="CLIENT", service="a", uid="client"),
        span(1, kind="SERVER", service="b", uid="server"),
        span(2, 1, service="b"),
        log(1, 1, service="b"),
    ]
    for order in (halves, halves[::-1]):
        trace = build(order)
        [client] = trace.roots
        [server] = client.children
        assert (client.service, server.service) == ("a", "b")
        assert [child.name for child in server.children] == ["op2"]
        assert [entry.uid for entry in server.logs] == ["l1"]
        assert trace.gaps == []


def test_a_span_that_only_started_is_shown_unfinished() -> None:
    """It lasts as long as anything is known to have happened in it."""
    trace = build([started(1), log(1, 1, at_ms=7), span(2, 1, start_ms=1, end_ms=5)])
    [root] = trace.roots
    assert (root.finished, root.duration_ns) == (False, 7 * MS)
    assert (kinds(trace), trace.completeness, trace.open_since_ns) == (["unfinished"], "open", root.start_ns)


def test_a_span_supersedes_its_start() -> None:
    """The start line is no second span, and no record that is counted."""
    trace = build([started(1), span(1)])
    assert (trace.roots[0].finished, trace.records, trace.gaps) == (True, 1, [])


def test_a_killed_process_leaves_a_gap_not_an_open_trace() -> None:
    """The ledger knows that the end of the span will never come."""
    trace = build([started(1)], TraceStatus(ended={"cd" * 16: "killed"}))
    assert (trace.completeness, trace.roots[0].process_ended) == ("gaps", "killed")
    assert "killed" in trace.gaps[0].message


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, "unknown"),
        (TraceStatus(foreign=True), "unknown"),
        (TraceStatus(), "complete"),
        (TraceStatus(open_since_ns=5), "open"),
        (TraceStatus(gaps=[Gap(kind="lost", message="3 records lost")]), "gaps"),
    ],
)
def test_completeness_is_what_the_ledger_can_vouch_for(status: TraceStatus | None, expected: str) -> None:
    """A whole tree proves nothing about what a process may still send."""
    assert build([span(1)], status).completeness == expected


def test_a_loss_note_is_a_gap() -> None:
    """What a process says it could not write is missing from the trace."""
    note = structs.replace(
        log(1, None), kind="loss", message=None, loss={"reason": "disk_full", "count": 12, "from": 0, "to": 9}
    )
    [gap] = build([span(1), note]).gaps
    assert (gap.kind, gap.count) == ("lost", 12)


def test_a_call_without_an_answer_is_named_when_others_were_answered() -> None:
    """The same call of the same trace proves that the callee does send spans."""
    calls = [
        span(2, 1, kind="CLIENT", name="GET", attributes={"server.address": "b"}),
        span(3, 2, kind="SERVER", service="b"),
        span(4, 1, kind="CLIENT", name="GET", attributes={"server.address": "b"}),
        span(5, 1, kind="CLIENT", name="GET", attributes={"server.address": "elsewhere"}),
    ]
    [gap] = build([span(1), *calls]).gaps
    assert (gap.kind, gap.span_id, gap.service) == ("silent_callee", f"{4:016x}", "b")


def test_links_are_kept() -> None:
    """A link is no relation, and is not lost."""
    link = Link(trace_id="ef" * 16, span_id="12" * 8)
    trace = build([span(1, links=(link,))])
    assert trace.roots[0].record.links == (link,)


def test_an_empty_trace_has_nothing() -> None:
    """No record, no root, no error."""
    trace = build([])
    assert (trace.roots, trace.records, trace.duration_ns) == ([], 0, 0)


def test_siblings_alike_are_folded_and_errors_never() -> None:
    """The first of a run says how many follow; a run of two is left alone, an error stands out."""
    error = Status(code="ERROR")
    rows = [span(n, 1, start_ms=n, end_ms=n + 0.5, name="SELECT") for n in range(2, 9)]
    rows[3] = structs.replace(rows[3], status=error)
    trace = build([span(1), *rows])
    assert [child.siblings_folded for child in trace.roots[0].children] == [2, 0, 0, 0, 2, 0, 0]


def test_siblings_that_do_different_things_below_are_not_alike() -> None:
    """The same operation with other calls in it is another story."""
    rows = [span(n, 1, start_ms=n, end_ms=n + 0.5, name="SELECT") for n in range(2, 5)]
    trace = build([span(1), *rows, span(50, 3, start_ms=3)])
    assert all(child.siblings_folded == 0 for child in trace.roots[0].children)


def test_self_time_leaves_out_the_union_of_the_children() -> None:
    """Children that overlap are not subtracted twice, nor what they do after the parent's end."""
    children = [
        span(2, 1, start_ms=1, end_ms=4),
        span(3, 1, start_ms=3, end_ms=6),
        span(4, 1, start_ms=9, end_ms=15),
    ]
    trace = build([span(1), *children])
    assert trace.roots[0].self_time_ns == (10 - 5 - 1) * MS


def test_the_critical_path_is_what_the_trace_waited_for() -> None:
    """Of two calls at once the one that ends last counts; what nobody covers is the caller's own."""
    trace = build(
        [
            span(1, start_ms=0, end_ms=10),
            span(2, 1, start_ms=1, end_ms=5),  # beside the next, and not waited for
            span(3, 1, start_ms=2, end_ms=8),
            span(4, 3, start_ms=2, end_ms=7),
            span(5, 1, start_ms=0, end_ms=1.5),
        ]
    )
    critical = {node.name: node.critical_ns / MS for node in trace.walk()}
    assert critical == {"op1": 2.5, "op2": 0, "op3": 1, "op4": 5, "op5": 1.5}


@pytest.mark.parametrize("size", [100_000])
def test_depth_and_width_do_not_matter(size: int) -> None:
    """A chain of a hundred thousand spans is built without recursion, and so is as wide a one."""
    deep = build(span(n, n - 1 if n else None, start_ms=n / size, end_ms=10) for n in range(size))
    assert max(node.depth for node in deep.walk()) == size - 1
    wide = build(span(n, 0 if n else None, start_ms=n / size, end_ms=10) for n in range(size))
    assert len(wide.roots[0].children) == size - 1


# ------------------------------------------------------------------ properties


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Record], list[Record]]:
    """A true call tree with logs, and what is delivered of it: with losses, copies, skew, in any order."""
    size = draw(st.integers(1, 14))
    hosts = draw(st.lists(st.integers(-(10**10), 10**10), min_size=3, max_size=3))
    truth: list[Record] = []
    for number in range(1, size + 1):
        parent = draw(st.integers(1, number - 1)) if number > 1 else None
        host = draw(st.integers(0, 2))
        start = draw(st.floats(0, 50))
        truth.append(
            span(
                number,
                parent,
                start_ms=start,
                end_ms=start + draw(st.floats(0, 50)),
                service=f"s{host}",
                host=f"h{host}",
                kind=draw(st.sampled_from([None, "CLIENT", "SERVER", "INTERNAL", "PRODUCER", "CONSUMER"])),
            )
        )
        if draw(st.booleans()):
            truth.append(log(number, number, at_ms=start, service=f"s{host}"))
    delivered = []
    for record in truth:
        copies = draw(st.sampled_from([0, 1, 1, 1, 1, 2, 3]))
        offset = hosts[int(record.service[1:])]
        moved = structs.replace(record, timestamp_ns=10**12 + record.timestamp_ns + offset)
        for copy in range(copies):
            # The first copy keeps the uid twice, as a replayed line does; later ones differ in content.
            fields = {"uid": f"{moved.uid}/{copy}", "name": f"{moved.name}/{copy}"} if copy > 1 else {}
            delivered.append(structs.replace(moved, **fields))
    random.Random(draw(st.integers(0, 10**6))).shuffle(delivered)
    return truth, delivered


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_every_kept_relation_is_there_and_no_false_one(world: tuple[list[Record], list[Record]]) -> None:
    """Losses, copies, skew and order change nothing about who called whom."""
    truth, delivered = world
    trace = build(delivered)
    true_parent = {record.span_id: record.parent_span_id for record in truth if record.kind == "span"}
    arrived = {record.span_id for record in delivered if record.kind == "span"}
    found = relations(trace)
    expected = {(child, true_parent[child]) for child in arrived if true_parent[child] is not None}
    assert found == expected
    nodes = list(trace.walk())
    assert len({node.span_id for node in nodes}) == len(nodes)
    assert {node.span_id for node in nodes if not node.inferred} == arrived
    lines = {entry.uid: node.span_id for node in nodes for entry in node.logs}
    assert lines == {record.uid: record.span_id for record in delivered if record.kind == "log"}
    missing = {gap.span_id for gap in trace.gaps if gap.kind == "missing_parent"}
    named = {record.span_id for record in delivered if record.kind == "log"} | {p for _, p in expected}
    assert missing == named - arrived


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_times_add_up(world: tuple[list[Record], list[Record]]) -> None:
    """Self time lies within the span, and the critical shares of a chain are its root's duration."""
    trace = build(world[1])
    for node in trace.walk():
        assert 0 <= node.self_time_ns <= node.duration_ns
        assert node.start_ns == node.record.timestamp_ns + node.skew_ns or node.inferred
    for root in trace.roots:
        assert sum(node.critical_ns for node in root.walk()) == root.duration_ns


@settings(max_examples=100, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(
    world: tuple[list[Record], list[Record]], rng: random.Random
) -> None:
    """The chain is a function of the set of records."""
    delivered = world[1]
    shuffled = delivered.copy()
    rng.shuffle(shuffled)
    one, other = build(shuffled), build(delivered)
    assert relations(one) == relations(other)
    assert [(n.span_id, n.start_ns, n.end_ns) for n in one.walk()] == [
        (n.span_id, n.start_ns, n.end_ns) for n in other.walk()
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 13), st.integers(0, 13)), max_size=40),
    st.lists(st.integers(0, 13), max_size=10),
)
def test_any_graph_of_parents_becomes_a_forest(edges: list[tuple[int, int]], lines: list[int]) -> None:
    """Rings, self-parents, forests: every span once, whatever the parents say."""
    records = [span(child, parent, uid=f"{child}-{parent}") for child, parent in edges]
    records += [log(n, at) for n, at in enumerate(lines)]
    trace = build(records)
    ids = [node.span_id for node in trace.walk()]
    assert len(ids) == len(set(ids))
    assert set(ids) >= {record.span_id for record in records}


@pytest.mark.shared
@pytest.mark.parametrize("system", ["trainticket-2023-01-29", "onlineboutique-2022-08-23"])
def test_every_parent_relation_of_the_recorded_files(shared_rca: Path, system: str) -> None:
    """The chain has exactly the relations that the file states, and every record."""
    for file in sorted((shared_rca / system).glob("*.zst")):
        records = list(read_records([file]))
        stated = {(r.trace_id, r.span_id, r.parent_span_id) for r in records if r.parent_span_id}
        traces = read_traces(file)
        built = {(t.trace_id, child, parent) for t in traces for child, parent in relations(t)}
        assert built == stated
        assert sum(trace.records for trace in traces) == len(records)
