"""Search results, traces, services, the ledger and scores as people see them."""

from __future__ import annotations

from typing import Any

import pytest

from collector import cli_score, cli_tables

TRACE = "5f3c" * 8


def record(number: int, **more: Any) -> dict[str, Any]:
    """A log record as the API gives it."""
    return {
        "uid": f"u{number}",
        "timestamp": f"2026-11-24T05:32:{number:02d}.000000000Z",
        "level": "INFO",
        "service": "orders",
        "message": f"message {number}",
        "trace_id": TRACE,
        **more,
    }


def page(*records: dict[str, Any]) -> dict[str, Any]:
    """A page of a search, newest first."""
    return {"records": list(records), "cursor": None, "total": len(records)}


def test_records_read_like_a_log_file() -> None:
    """Oldest first, the day once, the trace id behind each line."""
    lines = cli_tables.record_lines(page(record(2), record(1)))
    assert [line.plain for line in lines] == [
        "2026-11-24",
        f"05:32:01.000  INFO   orders  message 1  {TRACE}",
        f"05:32:02.000  INFO   orders  message 2  {TRACE}",
    ]


@pytest.mark.parametrize("width", [40, 80, 109, 110, 140])
def test_a_trace_id_is_never_cut(width: int) -> None:
    """Whatever the terminal's width: it is what the next command needs."""
    lines = cli_tables.record_lines(page(record(2, message="x" * 500), record(1)), width=width)
    assert all(line.cell_len <= width for line in lines)
    assert sum(TRACE in line.plain for line in lines) == (1 if width < 110 else 2)


def test_a_span_in_the_results_has_its_length() -> None:
    """Spans and logs are found alike and told apart."""
    span = record(1, kind="span", name="POST /orders", duration_ns=12_000_000)
    del span["message"]
    (_, line) = cli_tables.record_lines(page(span))
    assert "POST /orders  12.0 ms" in line.plain


def test_no_rows_make_no_head() -> None:
    """An empty answer is empty, so that `wc -l` counts right."""
    assert cli_tables.trace_list_lines({"traces": []}) == []
    assert cli_tables.service_lines({"services": []}) == []


def test_the_ledger_tells_what_is_missing() -> None:
    """Unexplained holes, admitted losses and refusals are told apart; a whole process is said to be whole."""
    whole: dict[str, Any] = {
        "service": "orders",
        "pid": 7,
        "lines": 1_200,
        "ended": None,
        "last_written": "2026-11-24T05:32:01.000000000Z",
        "missing": [],
        "losses": [],
        "refused": {},
    }
    torn = whole | {
        "service": "payments",
        "ended": "killed",
        "missing": [{"start": 0, "end": 9}],
        "losses": [{"reason": "over_bound", "count": 3}],
        "refused": {"bad_id": 2},
    }
    assert (cli_tables.is_whole(whole), cli_tables.is_whole(torn)) == (True, False)
    _, first, second = [
        " ".join(line.plain.split()) for line in cli_tables.ledger_lines({"spools": [whole, torn]})
    ]
    assert first == "orders 7 1 200 running 2026-11-24 05:32:01.000 nothing"
    assert second.endswith(" killed 2026-11-24 05:32:01.000 1 unexplained; over_bound 3; 2 refused: bad_id")


def test_a_score_shows_what_went_wrong() -> None:
    """The share, and each case whose right answer was not in the first place."""
    score = {
        "cases": 2,
        "as@1": 0.5,
        "as@3": 1.0,
        "as@5": 1.0,
        "seconds": 1.25,
        "false_alarms": 0,
        "per_case": [
            {"case": "a", "service": "orders", "rank": 1, "ranking": ["orders"]},
            {"case": "b", "service": "cart", "rank": 2, "ranking": ["orders", "cart"]},
        ],
    }
    lines = [line.plain for line in cli_score.score_lines(score)]
    assert lines[0] == "as@1  50.0 %"
    assert lines[-1].split() == ["b", "cart", "2", "orders,", "cart"]


@pytest.mark.parametrize(
    ("width", "row"),
    [
        (
            None,
            f"{TRACE}  2026-11-24 05:32:11.412  40.0 ms  ✗ failed  13 spans  8 logs  gateway POST /orders",
        ),
        (100, f"{TRACE}  2026-11-24 05:32:11.412  40.0 ms  ✗ failed  gateway POST /orders"),
        (80, f"{TRACE}  11-24 05:32  40.0 ms  ✗  gateway POST /orders"),
    ],
)
def test_a_list_of_traces_keeps_the_entry_point(width: int | None, row: str) -> None:
    """On a narrow terminal the counts go first, then the parts of the time that can be done without."""
    trace = {
        "trace_id": TRACE,
        "start": "2026-11-24T05:32:11.412000000Z",
        "duration_ns": 40_000_000,
        "error": True,
        "spans": 13,
        "logs": 8,
        "service": "gateway",
        "name": "POST /orders",
    }
    _, line = cli_tables.trace_list_lines({"traces": [trace]}, width=width)
    assert line.plain.split() == row.split()
    assert line.plain.startswith(f"{TRACE}  ")
