"""Every hop keeps the context; the table is printed, with plain OpenTelemetry beside ours."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from context_matrix import Row, groups, run_group, table
from devservers import ServerUnavailable


@pytest.mark.timeout(700)  # both libraries, on a busy machine
@pytest.mark.parametrize("group", groups())
def test_every_hop_keeps_everything(
    group: str, capsys: pytest.CaptureFixture[str], need: Callable[[bool, str], None]
) -> None:
    """Ids in the log line, the parent, baggage; after failures, after cancellation, a thousand at once."""
    try:
        rows = run_group("ours", group)
    except ServerUnavailable as error:
        need(False, str(error))
        raise
    peers = run_group("otel", group)
    with capsys.disabled():
        sys.stdout.write(f"\n{table(rows + peers)}\n")
    assert [row for row in rows if not row.kept] == []


def test_the_matrix_sees_what_is_lost() -> None:
    """Without instrumentation a thread loses the request, and each column says so."""
    rows = {row.hop: row for row in run_group("bare", "threads")}
    lost = rows["threading.Thread"]
    assert not lost.kept
    assert set(lost.cells.values()) == {"lost", "–", "0 of 1000"}
    assert rows["asyncio.to_thread"].kept, "what Python itself carries is kept"


@pytest.mark.parametrize(
    ("column", "word"), [("log ids", "lost"), ("concurrent", "999 of 1000"), ("cancellation", "lost")]
)
def test_one_bad_cell_spoils_a_row(column: str, word: str) -> None:
    """Nothing but `kept`, `–` and all of them counts."""
    whole = {"log ids": "kept", "cancellation": "–", "concurrent": "1000 of 1000"}
    assert Row("hop", "ours", 1000, whole).kept
    assert not Row("hop", "ours", 1000, whole | {column: word}).kept
