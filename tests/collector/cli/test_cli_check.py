"""`backtrail check`: what would keep the collector from working is found, and nothing is changed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collector.cli_check import Finding, check_lines, check_machine
from collector.settings import Settings

NOBODY = "http://127.0.0.1:1"


def found(settings: Settings, spool_dir: Path, *, url: str = NOBODY) -> list[Finding]:
    """All findings that are not good."""
    findings = check_machine(settings, url=url, spool_dir=spool_dir)
    return [finding for finding in findings if finding.state != "good"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a collector that could run here."""
    return Settings(data_dir=tmp_path / "data", port=0)


def test_a_sound_machine_only_lacks_a_collector(settings: Settings, tmp_path: Path) -> None:
    """With nothing running, that is the one finding; and looking leaves nothing behind."""
    (finding,) = found(settings, tmp_path / "spool")
    assert "no collector answers" in finding.what
    assert "backtrail serve" in (finding.advice or "")
    assert list(tmp_path.iterdir()) == []


def test_a_running_collector_is_found_ready(url: str, settings: Settings, tmp_path: Path) -> None:
    """Nothing is left to find when one answers."""
    assert found(settings, tmp_path / "spool", url=url) == []


def test_data_that_others_can_read_is_said(settings: Settings, tmp_path: Path) -> None:
    """Logs hold what should not be read by everybody on the machine."""
    settings.data_dir.mkdir(mode=0o755)
    assert any("other users can read" in finding.what for finding in found(settings, tmp_path / "spool"))
    settings.data_dir.chmod(0o700)
    assert not any("other users can read" in finding.what for finding in found(settings, tmp_path / "spool"))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Before the collector fails on it."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    findings = found(Settings(data_dir=locked / "data", port=0), tmp_path / "spool")
    assert any("may not write" in finding.what for finding in findings)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """By another program: the collector could not start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        findings = found(Settings(data_dir=tmp_path / "data", port=port), tmp_path / "spool")
    assert any(f"port {port}" in finding.what for finding in findings)


def test_lines_that_nobody_ships_are_said(settings: Settings, tmp_path: Path) -> None:
    """A service that is no more has left something behind."""
    segment = tmp_path / "spool" / "nightly" / ("a" * 32) / "00000000.ndjson"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(b"x" * 1_000)
    os.utime(segment, (time.time() - 86_400,) * 2)
    (finding,) = [item for item in found(settings, tmp_path / "spool") if "spools of" in item.what]
    assert finding.what.startswith("1.0 kB in the spools of nightly, oldest 24 h 00 min")
    assert "backtrail agent" in (finding.advice or "")


PROGRAM = """
import logging, sys, tracing
tracing.configure(service=sys.argv[1], spool_dir=sys.argv[2], ship=False)
logging.warning("written")
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Start a program of a name that has logged a line, and runs until its standard input is closed."""
    started: list[subprocess.Popen[bytes]] = []

    def run(service: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", PROGRAM, service, str(tmp_path / "spool")]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"\n"
        return process

    yield run
    for process in started:
        process.communicate()


def test_lines_of_a_program_that_has_just_ended_are_said(
    settings: Settings, tmp_path: Path, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    """At once, not after an hour; a living one ships for itself, and is no reason to do anything."""
    start("lives")
    short = start("short")
    assert not [item for item in found(settings, tmp_path / "spool") if "spools of" in item.what]
    short.communicate()
    (finding,) = [item for item in found(settings, tmp_path / "spool") if "spools of" in item.what]
    assert "lives, short" in finding.what and " kB " in finding.what
    assert (
        finding.advice
        == "processes of short ended with lines behind them: `backtrail agent --once` ships them"
    )


def test_findings_are_marked_and_advised() -> None:
    """A person sees at a glance what is wrong, and below it what to do."""
    findings = [
        Finding(state="good", what="all is well"),
        Finding(state="bad", what="no disk", advice="buy one"),
    ]
    assert [line.plain for line in check_lines(findings)] == ["✓ all is well", "✗ no disk", "    → buy one"]


def test_living_programs_that_have_written_nothing_for_long_are_said_otherwise(
    settings: Settings, tmp_path: Path, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    """They may be idle, or told not to ship; in any case nobody has died."""
    start("lives")
    for segment in (tmp_path / "spool").glob("*/*/*.ndjson"):
        os.utime(segment, (time.time() - 86_400,) * 2)
    (finding,) = [item for item in found(settings, tmp_path / "spool") if "spools of" in item.what]
    assert "living programs" in (finding.advice or "")
