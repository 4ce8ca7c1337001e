"""`backtrail tail`: what is there, then what comes, nothing between the two lost or shown twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collector.cli import OK, USAGE, main
from collector.receive.lines import line_fields
from tracing.line import encode


def test_a_data_directory_cannot_be_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said at once, instead of waiting for what never comes."""
    assert main(["tail", "-f", "--data-dir", str(tmp_path)]) == USAGE
    assert "needs a running collector" in capsys.readouterr().err


def test_what_comes_later_is_shown_after_what_was_there(url: str, make_log: Any, tmp_path: Path) -> None:
    """First the newest records, then each new one as it becomes visible; Ctrl-C ends it."""
    command = [sys.executable, "-m", "collector", "tail", "-f", "-n", "1", "--json", "--url", url]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        # A test run in the background may have been started with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
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
