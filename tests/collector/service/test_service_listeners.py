"""Syslog and files as a service listens to them: by its settings, in its metrics, over its end."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.errors import ConfigurationError
from collector.service import Collector
from collector.settings import Settings, load


def wait_for(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1500):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen in time")


def test_what_is_heard_can_be_found(tmp_path: Path) -> None:
    """Beside what comes over HTTP, with the service that the setting names."""
    settings = Settings(
        data_dir=tmp_path / "data",
        port=0,
        store="memory",
        commit_interval_s=0.05,
        syslog_port=0,
        tail_files=(f"shop={tmp_path}/*.log", str(tmp_path / "other.txt")),
    )
    (tmp_path / "a.log").write_text("ERROR from a file\nlast line\n")
    (tmp_path / "other.txt").write_text("of another\nlast line\n")
    with Collector(settings) as collector:
        listeners = collector._running.listeners
        assert listeners.syslog is not None
        with socket.create_connection(("127.0.0.1", listeners.syslog.port)) as connection:
            connection.sendall(b"<11>1 - host app - - - over syslog\n")

        def found() -> set[tuple[str, str]]:
            records = collector.pipeline.answers.logs(limit=100)["records"]
            return {(one["service"], one["message"]) for one in records}

        expected = {
            ("shop", "ERROR from a file"),
            ("shop", "last line"),
            ("other", "of another"),
            ("other", "last line"),
            ("app", "over syslog"),
        }
        wait_for(lambda: found() == expected)
        with urllib.request.urlopen(f"{collector.url}/metrics") as answer:
            metrics = answer.read().decode()
    assert "backtrail_syslog_messages_total 1\n" in metrics
    assert "backtrail_files_records_total 4\n" in metrics


def test_they_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list is written with commas."""
    monkeypatch.setenv("BACKTRAIL_TAIL_FILES", "a=/x/*.log, /y")
    monkeypatch.setenv("BACKTRAIL_SYSLOG_PORT", "5514")
    settings = load().settings
    assert (settings.tail_files, settings.syslog_port) == (("a=/x/*.log", "/y"), 5514)


def test_a_port_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    """And leaves nothing behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings = Settings(data_dir=tmp_path, port=0, store="memory", syslog_port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="syslog_port"):
            Collector(settings).start()
    with Collector(settings.model_copy(update={"syslog_port": None})):
        pass
