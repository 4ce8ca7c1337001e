"""How spans stand in a chain: what a structure finds, against the definition in as many words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collector.model import Record, SpanNode, Trace
from collector.query import parse_structure
from collector.store.conditions import Condition, Equals, Structure, matches
from collector.trace.build import build_trace
from collector.trace.structure import has_structure

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
DEPTH = 5_000


def span(number: int, service: str, parent: int | None = None, **more: Any) -> Record:
    """A span of a service below another one."""
    given: dict[str, Any] = {
        "uid": f"span-{number}",
        "kind": "span",
        "timestamp_ns": 1_000 + number,
        "duration_ns": 10,
        "level": "INFO",
        "severity_number": 9,
        "service": service,
        "trace_id": TRACE_ID,
        "span_id": f"{number + 1:016x}",
        "parent_span_id": None if parent is None else f"{parent + 1:016x}",
        "name": f"op-{service}",
    }
    return Record(**given | more)


def log(number: int, span_number: int, service: str, message: str) -> Record:
    """A line that was logged in a span."""
    return span(
        span_number, service, uid=f"log-{number}", kind="log", duration_ns=None, name=None, message=message
    )


def found(records: Sequence[Record], text: str) -> bool:
    """Whether the trace of these records has the structure."""
    return has_structure(build_trace(TRACE_ID, records), parse_structure(text))


CHAIN = [
    span(0, "gateway"),
    span(1, "orders", 0),
    span(2, "stock", 1),
    span(3, "pay", 1),
    log(4, 3, "pay", "Card declined"),
]


def test_below_is_anywhere_below_and_a_child_directly() -> None:
    """Down the same way only: a sister is not below."""
    assert found(CHAIN, "service:gateway >> service:pay")
    assert not found(CHAIN, "service:gateway > service:pay")
    assert found(CHAIN, "service:orders > service:pay")
    assert not found(CHAIN, "service:pay >> service:gateway")
    assert not found(CHAIN, "service:stock >> service:pay")
    assert not found(CHAIN, "service:gateway >> service:gateway")
    assert found(CHAIN, "service:gateway > service:orders > service:pay")
    assert not found(CHAIN, "service:gateway >> service:stock >> service:pay")


def test_a_span_is_like_what_its_log_lines_say() -> None:
    """The line of the card was logged below the gateway, and not below the payment."""
    assert found(CHAIN, "service:gateway >> declined")
    assert not found(CHAIN, "service:pay >> declined")
    assert not found(CHAIN, "declined >> service:pay")


def test_the_steps_need_not_be_next_to_each_other_but_their_children_do() -> None:
    """A direct step counts from whichever span fulfilled the one before."""
    records = [span(0, "a"), span(1, "b", 0), span(2, "a", 1), span(3, "c", 2)]
    assert found(records, "service:b >> service:a > service:c")
    assert found(records, "service:a >> service:a > service:c")
    assert not found(records, "service:b > service:c")
    assert not found(records, "service:a > service:a")


def test_what_never_arrived_is_a_link_that_matches_nothing() -> None:
    """A parent that is only named parts the spans below it from nothing above."""
    records = [span(0, "a"), span(2, "b", 1), log(9, 5, "c", "hello")]
    assert not found(records, "service:a >> service:b")
    assert not found(records, "kind:span >> service:b")
    assert not found(records, "service:a >> hello")


def test_a_client_and_its_server_that_share_an_id() -> None:
    """As they are drawn: the server's half below the client's."""
    client = span(0, "web", span_kind="CLIENT")
    server = span(0, "orders", span_kind="SERVER", uid="other")
    assert found([client, server], "service:web > service:orders")
    assert not found([client, server], "service:orders >> service:web")


def test_a_deep_chain_is_walked_without_recursion() -> None:
    """Thousands deep, the ends of it."""
    records = [span(n, "first" if n == 0 else "link", n - 1 if n else None) for n in range(DEPTH)]
    records.append(span(DEPTH, "last", DEPTH - 1))
    assert found(records, "service:first >> service:link >> service:last")


# ---------------------------------------------------------------- the definition, the slow way


def _naive(trace: Trace, structure: Structure) -> bool:
    """Try every span for the first step, and below each of them every one for the next."""

    def is_like(node: SpanNode, step: Condition) -> bool:
        return not node.inferred and matches(step, node.record)

    def goes_on(node: SpanNode, number: int) -> bool:
        if number == len(structure.steps):
            return True
        below = node.children if structure.direct[number] else list(node.walk())[1:]
        return any(is_like(one, structure.steps[number]) and goes_on(one, number + 1) for one in below)

    return any(is_like(node, structure.steps[0]) and goes_on(node, 1) for node in trace.walk())


services = st.sampled_from("abc")


@given(
    names=st.lists(services, min_size=1, max_size=12),
    picks=st.lists(st.integers(0, 99), min_size=12, max_size=12),
    steps=st.lists(st.tuples(services, st.booleans()), min_size=1, max_size=4),
)
def test_any_tree_and_any_structure(
    names: list[str], picks: list[int], steps: list[tuple[str, bool]]
) -> None:
    """The answer is the definition's, for random trees; a parent is any earlier span, or none."""
    records = []
    for number, name in enumerate(names):
        parent = picks[number] % (number + 1) - 1
        records.append(span(number, name, None if parent < 0 else parent))
    structure = Structure(
        steps=tuple(Equals("service", name) for name, _ in steps),
        direct=tuple(is_direct and at > 0 for at, (_, is_direct) in enumerate(steps)),
    )
    trace = build_trace(TRACE_ID, records)
    assert has_structure(trace, structure) == _naive(trace, structure)
