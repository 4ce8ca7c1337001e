"""Where nothing is found: lines that an ended program has left on this machine are pointed to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from collector.cli import NOTHING, main

SHORT_PROGRAM = """
import logging, sys, tracing
tracing.configure(service="short", level="INFO", ship=False)
logging.getLogger().info("written")
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _spools_of_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACING_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.delenv("TRACING_COLLECTOR_URL", raising=False)


def said(capsys: pytest.CaptureFixture[str], *place: str) -> str:
    """What a search that finds nothing says."""
    capsys.readouterr()
    assert main(["search", "service:short", *place]) == NOTHING
    return capsys.readouterr().err


def test_a_search_that_finds_nothing_points_to_what_waits_here(
    url: str,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Only what nobody ships; with the collector that was asked; not for a data directory."""
    command = [sys.executable, "-c", SHORT_PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None and program.stdout.readline() == b"\n"
        while_it_runs = said(capsys, "--url", url)
        program.communicate()
    assert while_it_runs == f"backtrail: nothing found in {url}\n", "a living program ships for itself"
    lines_wait = f"backtrail: nothing found in {url}; lines of short wait in local spools: "
    assert said(capsys, "--url", url) == f"{lines_wait}`backtrail agent --once --url {url}` ships them\n"
    monkeypatch.setenv("TRACING_COLLECTOR_URL", url)
    assert said(capsys, "--url", url) == f"{lines_wait}`backtrail agent --once` ships them\n"
    monkeypatch.setenv("TRACING_SAMPLER", "dice")
    assert "wait" not in said(capsys, "--url", url), "the programs' settings are not this command's to judge"
    monkeypatch.delenv("TRACING_SAMPLER")
    assert "wait" not in said(capsys, "--data-dir", str(data_dir)), "nothing is shipped to a directory"
