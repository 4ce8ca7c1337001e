"""A process that logs inside a span and is killed at once: the line and the open span are in the chain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.client import CollectorClient
from collector.errors import Unreachable

pytestmark = pytest.mark.flow

CHILD = """
    import logging, os, signal, sys
    import tracing

    tracing.configure(service="worker")
    with tracing.span("nightly job") as span:
        with tracing.span("import orders"):
            sys.stdout.write(tracing.current_trace_id() + "\\n")
            sys.stdout.flush()
            logging.getLogger("jobs").warning("order 41 is odd")
            os.kill(os.getpid(), signal.SIGKILL)
"""

HEIR = "import sys, tracing; tracing.configure(service='worker'); sys.stdin.read()"


@pytest.fixture
def collector_url(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[str]:
    """A running collector of its own."""
    port = free_port()
    data = str(tmp_path / "collector")
    process = subprocess.Popen(
        [sys.executable, "-m", "collector", "serve", "--port", str(port), "--data-dir", data],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url)
        yield url
    finally:
        process.kill()
        process.wait()


def test_the_last_line_before_sigkill_is_in_the_chain(collector_url: str, tmp_path: Path) -> None:
    """The killed process had no time to send anything; the next one of its service does it."""
    environment = {
        **os.environ,
        "TRACING_COLLECTOR_URL": collector_url,
        "TRACING_SPOOL_DIR": str(tmp_path / "spool"),
    }
    killed = run(CHILD, environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    trace_id = killed.stdout.strip()

    with subprocess.Popen(
        [sys.executable, "-c", HEIR], env=environment, stdin=subprocess.PIPE, text=True
    ) as heir:  # lives until its standard input is closed
        trace = settled_trace(collector_url, trace_id)
        assert heir.poll() is None

    nodes = {node["name"]: node for node in trace["nodes"]}
    assert list(nodes) == ["nightly job", "import orders"]
    assert [log["message"] for log in nodes["import orders"]["logs"]] == ["order 41 is odd"]
    assert not any(node["finished"] for node in nodes.values())
    assert {gap["kind"] for gap in trace["gaps"]} == {"unfinished"}
    assert trace["completeness"] == "gaps"


def wait_until_ready(url: str, timeout_s: float = 20.0) -> None:
    """Return once the collector answers that it is ready."""
    client, deadline = CollectorClient(url), time.monotonic() + timeout_s
    while True:
        try:
            if client.health()["status"] == "ready":
                return
        except Unreachable:
            pass
        assert time.monotonic() < deadline, f"no collector at {url} after {timeout_s:g} s"
        time.sleep(0.05)


def settled_trace(url: str, trace_id: str, timeout_s: float = 30.0) -> dict[str, Any]:
    """The trace, once the collector expects nothing more of it."""
    client, deadline = CollectorClient(url), time.monotonic() + timeout_s
    while True:
        trace = client.wait_for_trace(trace_id, timeout_s=timeout_s)
        if trace["completeness"] != "open" or time.monotonic() > deadline:
            return trace
        time.sleep(0.05)


def run(program: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
