"""The call chain as text: everything is in it, in its place, and it fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.cli_chain import chain_lines
from collector.model import ExceptionInfo, Record

FAILED_ORDER = """\
trace 5f3c5f3c5f3c5f3c5f3c5f3c5f3c5f3c  ·  failed
gateway  POST /orders  ·  2026-11-24 05:32:11.412 UTC  ·  40.0 ms
3 services  ·  5 spans  ·  3 logs  ·  completeness unknown

    at ms   took ms
      0.0      40.0  ━━━━━━━━━━━━━━━━  gateway POST /orders  ✗ 502
      1.0            ·                 │ INFO received order-0041: 3 x lamp
      2.0      36.0  ━━━━━━━━━━━━━━━   └─ POST  client
      4.0      32.0   ━━━━━━━━━━━━━       └─ orders POST /orders
      5.0       4.0    ━━                    ├─ check credit
      8.0               ·                    │    INFO credit of ada is good
     12.0      10.0      ━━━━━               └─ inventory Reserve  ✗
                                                  KeyError: 'shelf'
                                                  at shop/inventory.py:50 in shelf_label
     30.0                        ·             ERROR no reservation"""


def drawn(trace: dict[str, Any], **options: Any) -> list[str]:
    """The lines without their colours."""
    return [line.plain for line in chain_lines(trace, **options)]


def test_a_failed_order_as_it_is_drawn(make_trace: Callable[..., Any]) -> None:
    """Spans as a tree, logs in their places in time, the failure marked where it was noticed and born."""
    assert "\n".join(drawn(make_trace())) == FAILED_ORDER


@pytest.mark.parametrize("width", range(40, 140, 7))
def test_no_line_is_wider_than_the_terminal(make_trace: Callable[..., Any], width: int) -> None:
    """A line that does not fit is cut with a mark, never wrapped into the tree."""
    lines = chain_lines(make_trace(), width=width)
    assert [line.plain for line in lines if line.cell_len > width] == []


def test_a_pipe_gets_every_line_whole(make_trace: Callable[..., Any], make_span: Any, make_log: Any) -> None:
    """Nothing is cut when no width is known: the reader is a program."""
    long = "x" * 5_000
    lines = drawn(make_trace([make_span(1, "a", "op", 0, 5), make_log(1, 1, "a", 1, long)]))
    assert any(long in line for line in lines)


def test_a_message_cannot_reach_the_terminal_raw(make_trace: Any, make_span: Any, make_log: Any) -> None:
    """Escape sequences, line breaks and direction marks of other people's texts are taken out."""
    evil = "\x1b[2J\x1b]0;owned\x07two\nlines\r\u202e"
    lines = drawn(make_trace([make_span(1, evil, evil, 0, 5), make_log(1, 1, evil, 1, evil)]), full=True)
    for line in lines:
        assert line.isprintable(), ascii(line)


def test_what_never_ended_and_what_never_arrived_is_said(make_trace: Any, make_span: Any) -> None:
    """An unfinished span and a missing parent are marked in the tree and listed below it."""
    records = [
        make_span(1, "web", "GET /", 0, 9),
        make_span(2, "worker", "charge", 2, None, parent=1),
        make_span(4, "mail", "send", 3, 2, parent=3),
    ]
    text = "\n".join(drawn(make_trace(records)))
    assert "charge  … never ended" in text
    assert "its own record never arrived" in text
    assert "What is missing" in text


@pytest.mark.parametrize(
    ("unfinished", "ended", "said"),
    [
        ("worker", "killed", "a process died"),
        ("worker", "exit", "unfinished spans"),
        ("web", "killed", "never finished"),
    ],
)
def test_a_request_that_was_answered_is_not_said_to_be_unfinished(
    unfinished: str, ended: str, said: str, make_trace: Any, make_span: Any
) -> None:
    """Its header tells what became of the spans below it, and no length stands where none is known."""
    trace = make_trace([make_span(1, "web", "GET /", 0, 9), make_span(2, "worker", "charge", 2, 3, parent=1)])
    for node in trace["nodes"]:
        if node["service"] == unfinished:
            node |= {"finished": False, "process_ended": ended}
    header, *lines = drawn(trace | {"completeness": "gaps"})
    assert header.endswith(f"  ·  {said}")
    numbers = {line.split()[1] for line in lines if "never ended" in line}
    assert numbers == {"–"}


def test_spans_that_are_not_indented_are_explained(make_trace: Any, make_span: Any) -> None:
    """Where the terminal is too narrow for the tree, the number in front is said to be the depth."""
    records = [make_span(1, "a", "root", 0, 50)]
    records += [make_span(at, "a", f"level {at}", at, 1, parent=at - 1) for at in range(2, 15)]
    trace = make_trace(records)
    legend = "[10] is a depth: so deep, spans are no longer indented"
    assert legend in drawn(trace, width=80)
    assert not [line for line in drawn(trace) if "is a depth" in line]


def test_equal_siblings_are_counted_not_listed(make_trace: Any, make_span: Any) -> None:
    """A hundred equal queries are one line and a number; `full` lists all of them."""
    records = [make_span(1, "web", "GET /", 0, 500)]
    records += [make_span(2 + at, "web", "SELECT", at, 0.5, parent=1) for at in range(100)]
    trace = make_trace(records)
    short = drawn(trace)
    assert sum("SELECT" in line for line in short) == 1
    assert any("× 99 more like it" in line for line in short)
    assert sum("SELECT" in line for line in drawn(trace, full=True)) == 100


def test_siblings_behind_a_fold_are_still_drawn(make_trace: Any, make_span: Any) -> None:
    """The fold hides as many as it says, and nothing that comes after."""
    records = [make_span(1, "web", "GET /", 0, 500)]
    records += [make_span(2 + at, "web", "SELECT", at, 0.5, parent=1) for at in range(4)]
    records += [make_span(9, "web", "UPDATE", 10, 1, parent=1)]
    text = drawn(make_trace(records))
    assert sum("UPDATE" in line for line in text) == 1


def test_a_very_deep_chain_is_drawn(make_trace: Any, make_span: Any) -> None:
    """Depth is no reason to fail, nor to push the tree out of sight."""
    depth = 3_000
    records = [make_span(1, "a", "root", 0, depth)]
    records += [make_span(at, "a", f"level {at}", at / 2, 1, parent=at - 1) for at in range(2, depth)]
    lines = drawn(make_trace(records), width=100)
    assert f"[{depth - 2}] level {depth - 1}" in lines[-1]


def test_full_shows_the_whole_stack_and_the_attributes(make_trace: Callable[..., Any]) -> None:
    """What is cut by default is one option away."""
    text = "\n".join(drawn(make_trace(), full=True))
    assert "return row['shelf']" in text
    assert "http.response.status_code = 502" in text


def test_a_logs_own_exception_stands_below_it(
    make_trace: Any, make_span: Any, make_log: Any, exception_info: ExceptionInfo
) -> None:
    """`logger.exception(...)` shows what was raised and where."""
    records: list[Record] = [make_span(1, "pay", "charge", 0, 5)]
    records.append(make_log(1, 1, "pay", 2, "declined", level="ERROR", exception=exception_info))
    lines = drawn(make_trace(records))
    at = next(number for number, line in enumerate(lines) if "declined" in line)
    assert [line.strip() for line in lines[at + 1 : at + 3]] == [
        "ValueError: no such card",
        "at pay.py:3 in charge",
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), min_size=1, max_size=12))
def test_the_tree_begins_in_one_column(times: list[tuple[int, int]], make_trace: Any, make_span: Any) -> None:
    """Whatever the times are, bars stay inside their column."""
    records = [make_span(1, "a", "root", 0, 100)]
    records += [make_span(2 + n, "a", "step", at, took, parent=1) for n, (at, took) in enumerate(times)]
    lines = drawn(make_trace(records), full=True)
    begins = {line.index("─ a step") for line in lines if "─ a step" in line}
    assert len(begins) == 1
