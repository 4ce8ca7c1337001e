"""Servers that fork: each worker logs under its own identity, whatever hooks the server runs, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import orjson
import pytest

from tracing.spool.adoption import spools
from tracing.spool.reader import read_lines, segment_paths

WORKERS = 3
REQUESTS = 30

# Configured before the fork, and with a thread that ships: what a service does that knows nothing of forks.
APP = """
    import logging, os, sys, threading
    import tracing

    def ships():
        return "backtrail-shipper" in [thread.name for thread in threading.enumerate()]

    tracing.configure(service="web")
    log = logging.getLogger("shop")
    log.warning("boot %d", os.getpid())
    if "uwsgi" in sys.modules:
        assert not ships(), "a thread in this master can make a worker wait for ever, see spool/forking.py"

    def application(environ, start_response):
        with tracing.span("request"):
            log.warning("request %s in %d", environ["PATH_INFO"], os.getpid())
        assert ships()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
"""

SERVERS = {
    "gunicorn": [
        *["-m", "gunicorn", "--preload", "--workers", str(WORKERS), "--threads", "2"],
        # A worker that is told to end while it boots never hears it, with us or without.
        *["--graceful-timeout", "2", "--no-control-socket", "--bind", "127.0.0.1:{port}", "app:application"],
    ],
    # Its workers are made by a fork of its own, without Python's hooks (no --py-call-osafterfork).
    "uwsgi": [
        *["-c", "import sys, pyuwsgi; pyuwsgi.run(sys.argv[1:])", "--http-socket", "127.0.0.1:{port}"],
        *["--master", "--processes", str(WORKERS), "--wsgi-file", "app.py", "--need-app", "--die-on-term"],
    ],
}


def answer(url: str) -> str | None:
    """What the server says, `None` while it does not listen."""
    try:
        with urlopen(url, timeout=30) as response:
            return str(response.read().decode())
    except URLError:
        return None


@pytest.mark.flow
@pytest.mark.parametrize("server", list(SERVERS))
def test_workers_of_a_server(server: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Every request is answered and logged once, under the process that answered it."""
    root, port = tmp_path / "spool", free_port()
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    process = subprocess.Popen(
        [sys.executable, *(part.format(port=port) for part in SERVERS[server])],
        env=outer
        | {
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
            "TRACING_SPOOL_DIR": str(root),
            "TRACING_COLLECTOR_URL": "http://127.0.0.1:9",
        },
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline_s = time.monotonic() + 60
        while answer(f"{url}/ready") is None:
            assert time.monotonic() < deadline_s, "the server does not listen"
            assert process.poll() is None, "the server has ended"
            time.sleep(0.05)
        answered = {f"request /{number} in {answer(f'{url}/{number}')}" for number in range(REQUESTS)}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert len(answered) == REQUESTS
    logged: list[str] = []
    for path in spools(root / "web"):
        header = orjson.loads(segment_paths(path)[0].read_bytes().partition(b"\n")[0])
        own_pid = str(header["resource"]["process.pid"])
        messages = [str(orjson.loads(line).get("message")) for _, line in read_lines(path)]
        ours = [message for message in messages if message.startswith(("boot", "request"))]
        assert {message.rpartition(" ")[2] for message in ours} <= {own_pid}  # the server logs too
        logged += [message for message in ours if message.startswith("request") and "/ready" not in message]
    assert sorted(logged) == sorted(answered)
