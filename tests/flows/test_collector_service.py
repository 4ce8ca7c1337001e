"""The service as a process: start, signals, settings, its own log."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.client import CollectorClient
from collector.errors import CollectorError
from collector.service import open_local
from tracing.line import decode

pytestmark = pytest.mark.flow

PATIENCE_S = 60.0
LINE = b'{"timestamp":"2026-11-24T05:32:11.000000001Z","level":"INFO","service":"orders","message":"hello"}'


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll a condition, with a deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {PATIENCE_S:g} s: {what}")
        time.sleep(0.01)


def run_briefly(data_dir: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Start a collector that is expected not to start."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BACKTRAIL_")}
    environment |= {"BACKTRAIL_DATA_DIR": str(data_dir), "BACKTRAIL_PORT": "0"}
    environment |= {f"BACKTRAIL_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "collector.service"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def own_log(collector: Any) -> list[dict[str, Any]]:
    """What the service said, each line checked as a record line."""
    return [decode(line) for line in collector.log.read_bytes().splitlines()]


def test_sigterm_indexes_what_was_acknowledged(collector_process: Callable[..., Any]) -> None:
    """A stop right after the answer: the records are in the store, without another start."""
    collector = collector_process(commit_interval_s="30")
    collector.start()
    with CollectorClient(collector.url) as client:
        assert client.import_records([(f"u-{number}", LINE) for number in range(100)])["stored"] == 100
    assert collector.terminate() == 0
    with open_local(collector.data_dir, write=False) as local:
        assert local.answers.stats()["records"] == 100
        assert local.answers.stats()["durable_seq"] == 100


def test_it_logs_record_lines_and_never_to_itself(collector_process: Callable[..., Any]) -> None:
    """Each line is one that any collector would take; the store stays empty."""
    collector = collector_process()
    collector.start()
    with CollectorClient(collector.url) as client, pytest.raises(CollectorError):
        client.trace("nonsense")
    assert collector.terminate() == 0
    messages = [line["message"] for line in own_log(collector)]
    assert messages[0] == f"listening on {collector.url}"
    assert messages[-2:] == ["received SIGTERM", "stopped; everything that was acknowledged is indexed"]
    assert {line["service"] for line in own_log(collector)} == {"backtrail-collector"}
    with open_local(collector.data_dir, write=False) as local:
        assert local.answers.stats()["records"] == 0


def test_sighup_takes_over_tokens_and_leaves_the_rest(
    collector_process: Callable[..., Any], tmp_path: Path
) -> None:
    """New tokens count at once; what needs a restart is named; a broken file changes nothing."""
    file = tmp_path / "collector.toml"
    file.write_text('read_token = "old"\n')
    collector = collector_process(config=str(file))
    collector.start()

    def may_read(token: str) -> bool:
        try:
            with CollectorClient(collector.url, token=token) as client:
                client.stats()
        except CollectorError:
            return False
        return True

    assert may_read("old")
    file.write_text('read_token = "new"\nwal_bytes_max = "2GiB"\n')
    collector.signal(signal.SIGHUP)
    wait_until(lambda: may_read("new"), "the new token is not taken")
    assert not may_read("old")
    file.write_text("read_token = \n")
    collector.signal(signal.SIGHUP)
    wait_until(lambda: any(line["level"] == "ERROR" for line in own_log(collector)), "no complaint")
    assert may_read("new")
    assert collector.terminate() == 0
    (read,) = [line for line in own_log(collector) if line["message"] == "read the settings again"]
    assert read["attributes"]["need_restart"] == ["wal_bytes_max"]


def test_what_keeps_it_from_starting_is_said(
    collector_process: Callable[..., Any], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """On one line, with what to do; exit status 2, no traceback."""
    running = collector_process()
    running.start()
    in_use = run_briefly(running.data_dir)
    port_taken = run_briefly(tmp_path / "other", port=running.url.rpartition(":")[2])
    open_door = run_briefly(tmp_path / "third", host="0.0.0.0")
    malformed = run_briefly(tmp_path / "fourth", port="many")
    (tmp_path / "file").write_text("")
    no_directory = run_briefly(tmp_path / "file" / "data")
    for done, said in (
        (in_use, f"in use by process {running.pid}"),
        (port_taken, "the port is in use"),
        (open_door, "both ingest_token and read_token must be set"),
        (malformed, "port = 'many' (environment)"),
        (no_directory, "Not a directory"),
    ):
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert said in done.stderr


def test_a_misspelt_variable_is_a_warning(collector_process: Callable[..., Any]) -> None:
    """It runs, and says which name was probably meant."""
    collector = collector_process(prot="1")
    collector.start()
    assert "BACKTRAIL_PROT (environment): no such setting; did you mean 'BACKTRAIL_PORT'?" in (
        collector.log.read_text()
    )


def test_systemd_hears_when_it_is_ready_and_when_it_stops(
    collector_process: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Type=notify-reload`: ready only when it answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        collector = collector_process()
        collector.start(wait=False)
        assert manager.recv(4096).startswith(b"READY=1\nSTATUS=listening on http://")
        with CollectorClient(collector.url) as client:
            assert client.health()["status"] == "ready"
        collector.signal(signal.SIGHUP)
        assert manager.recv(4096).startswith(b"RELOADING=1\n")
        assert manager.recv(4096) == b"READY=1"
        assert collector.terminate() == 0
        assert manager.recv(4096) == b"STOPPING=1"


def test_a_directory_can_be_read_while_it_runs(collector_process: Callable[..., Any]) -> None:
    """Another process sees what is committed."""
    collector = collector_process()
    collector.start()
    with CollectorClient(collector.url) as client:
        client.import_records([("u", LINE)])
        wait_until(lambda: client.stats()["records"] == 1, "not indexed")
        with open_local(collector.data_dir, write=False) as local:
            here, there = local.answers.logs(), client.logs()
    assert here == there
    assert json.dumps(here)
