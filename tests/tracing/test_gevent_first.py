"""A program that gevent has patched before us: what can be carried is, and nothing is raised."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import orjson

PROGRAM = """
    import gevent.monkey
    gevent.monkey.patch_all()
    import logging, sys, threading
    import tracing

    tracing.configure(service="shop", exporter="file", export_file=sys.argv[1], level="INFO")
    tracing.instrument()
    with tracing.span("request"):
        thread = threading.Thread(target=lambda: logging.warning("in a thread"))
        thread.start()
    thread.join()
    tracing.uninstrument()
    with tracing.span("later"):
        thread = threading.Thread(target=lambda: logging.warning("put back"))
        thread.start()
    thread.join()
"""


def test_threads_of_a_patched_program_carry_the_trace(tmp_path: Path) -> None:
    """`threading.Thread` is a subclass of gevent's by then, and its queues are written in C."""
    lines = tmp_path / "lines"
    program = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(lines)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = [orjson.loads(line) for line in lines.read_bytes().splitlines()]
    logs = {line["message"]: line for line in found if "kind" not in line}
    [request] = [line for line in found if line.get("kind") == "span" and line["name"] == "request"]
    assert logs["in a thread"]["trace_id"] == request["trace_id"]
    assert "trace_id" not in logs["put back"]
