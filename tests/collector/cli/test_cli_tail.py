"""`backtrail tail`: what is there, then what comes, nothing between the two lost or shown twice."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.cli import OK, USAGE, main
from collector.cli_tail import Event, events
from collector.receive.lines import line_fields
from tracing.line import encode

values = st.dictionaries(st.text(), st.text() | st.integers(0, 2**53), max_size=4)


@given(st.lists(st.tuples(st.sampled_from(["record", "dropped"]), values), max_size=5))
def test_events_are_read_as_they_were_sent(sent: list[tuple[str, dict[str, Any]]]) -> None:
    """Comments between them keep the line open and are nobody's business."""
    stream = b": watching\n\n"
    for name, data in sent:
        stream += b"event: %b\ndata: %b\n\n: still here\n\n" % (name.encode(), json.dumps(data).encode())
    assert list(events(io.BytesIO(stream))) == [Event(name, data) for name, data in sent]


def test_an_event_that_was_cut_off_is_not_shown() -> None:
    """The collector died in mid-sentence: half a record is no record."""
    assert list(events(io.BytesIO(b'event: record\ndata: {"uid": "a"}\n'))) == []


def test_a_data_directory_cannot_be_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said at once, instead of waiting for what never comes."""
    assert main(["tail", "-f", "--data-dir", str(tmp_path)]) == USAGE
    assert "needs a running collector" in capsys.readouterr().err


def test_what_comes_later_is_shown_after_what_was_there(url: str, make_log: Any, tmp_path: Path) -> None:
    """First the newest records, then each new one as it becomes visible; Ctrl-C ends it."""
    command = [sys.executable, "-m", "collector", "tail", "-f", "-n", "1", "--json", "--url", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["message"] == "no reservation"
            news = tmp_path / "news.ndjson"
            news.write_bytes(
                b"".join(encode(line_fields(make_log(9, 1, "web", 50 + n, f"news {n}"))) for n in range(3))
            )
            assert main(["import", str(news), "--url", url]) == OK
            shown = [json.loads(process.stdout.readline())["message"] for _ in range(3)]
            assert shown == ["news 0", "news 1", "news 2"]
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
        finally:
            process.kill()
