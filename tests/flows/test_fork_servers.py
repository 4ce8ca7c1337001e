"""Servers with several processes: each worker logs and traces under its own identity.

Workers are killed while they answer. Every request that was answered is complete: its log line and its span;
one whose worker died shows the span as begun, with every line whose log call had returned.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import orjson
import pytest

from tracing.spool.adoption import spools
from tracing.spool.reader import read_lines, segment_paths

WORKERS = 3
CLIENTS = 4
SIZES = [  # requests, and workers that are killed meanwhile
    (40, 3),
    pytest.param(2000, 40, marks=pytest.mark.soak),
]

# Configured before the fork, and with a thread that ships: what a service does that knows nothing of forks.
APP = """
    import logging, os, signal, sys, threading
    import tracing

    def ships():
        return "backtrail-shipper" in [thread.name for thread in threading.enumerate()]

    tracing.configure(service="web")
    log = logging.getLogger("shop")
    log.warning("boot %d", os.getpid())
    if "uwsgi" in sys.modules:
        assert not ships(), "a thread in this master can make a worker wait for ever, see spool/forking.py"

    def work(path):
        with tracing.span("work", path=path):
            log.warning("request %s in %d", path, os.getpid())
            if path.startswith("/die"):
                os.kill(os.getpid(), signal.SIGKILL)
        assert ships()
        return str(os.getpid()).encode()

    @tracing.wsgi
    def application(environ, start_response):
        answer = work(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [answer]

    @tracing.asgi
    async def asgi_application(scope, receive, send):
        answer = work(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})
"""

GUNICORN = [
    *["-m", "gunicorn", "--preload", "--workers", str(WORKERS)],
    # A worker that is told to end while it boots never hears it, with us or without.
    *["--graceful-timeout", "2", "--no-control-socket", "--bind", "127.0.0.1:{port}", "app:application"],
]
SERVERS = {
    "gunicorn sync": GUNICORN,
    "gunicorn gthread": [*GUNICORN, "--threads", "2"],
    "gunicorn gevent": [*GUNICORN, "--worker-class", "gevent"],
    # These begin afresh; another one is started for each that died. (Granian is left out: told to end after
    # its workers were killed, it hung in one of two runs without us.)
    "uvicorn": [
        *["-m", "uvicorn", "--workers", str(WORKERS), "--lifespan", "off", "--port", "{port}"],
        "app:asgi_application",
    ],
    # Its workers are made by a fork of its own, without Python's hooks (no --py-call-osafterfork).
    "uwsgi": [
        *["-c", "import sys, pyuwsgi; pyuwsgi.run(sys.argv[1:])", "--http-socket", "127.0.0.1:{port}"],
        *["--master", "--processes", str(WORKERS), "--wsgi-file", "app.py", "--need-app", "--die-on-term"],
    ],
}


def answer(url: str) -> str | None:
    """What the server says; `None` while it does not listen, or when its worker died."""
    try:
        with urlopen(url, timeout=30) as response:
            return str(response.read().decode())
    except (OSError, HTTPException):
        return None


def ask_all(url: str, requests: int, kills: int) -> dict[str, str]:
    """Ask for every number, by several clients, and kill workers in between; the answers by path."""
    paths = [f"/{number}" for number in range(requests)]
    step = requests // kills
    for kill in range(kills):
        paths.insert(kill * (step + 1) + step // 2, f"/die/{kill}")
    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = dict(zip(paths, clients.map(lambda path: answer(url + path), paths), strict=True))
    return {path: pid for path, pid in answers.items() if pid is not None}


class Written:
    """What all processes of the service have written."""

    def __init__(self, service: Path) -> None:
        self.logs: list[str] = []
        self.begun: dict[str, list[str]] = {}  # paths, by the name of the span
        self.ended: dict[str, list[str]] = {}
        for path in spools(service):
            header = orjson.loads(segment_paths(path)[0].read_bytes().partition(b"\n")[0])
            own_pid = str(header["resource"]["process.pid"])
            for line in (orjson.loads(data) for _, data in read_lines(path)):
                if "name" in line:
                    kept = {"span_start": self.begun, "span": self.ended}[line["kind"]]
                    attributes = line["attributes"]
                    kept.setdefault(line["name"], []).append(attributes.get("path") or attributes["url.path"])
                elif str(line.get("message")).startswith(("boot", "request")):  # the server logs too
                    assert line["message"].rpartition(" ")[2] == own_pid
                    self.logs.append(line["message"])


@pytest.mark.flow
@pytest.mark.parametrize("server", list(SERVERS))
@pytest.mark.parametrize(("requests", "kills"), SIZES)
def test_workers_of_a_server(
    server: str, requests: int, kills: int, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Every answered request is logged and traced once, under the process that answered it."""
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
        answered = ask_all(url, requests, kills)
    finally:
        process.terminate()
        process.wait(60)
    died = {f"/die/{kill}" for kill in range(kills)}
    assert not died & answered.keys()
    assert len(answered) >= requests - kills * CLIENTS  # a killed worker takes what it holds along
    found = Written(root / "web")
    for path, pid in answered.items():
        assert found.logs.count(f"request {path} in {pid}") == 1
    for name in ("work", "GET"):
        ended, begun = found.ended[name], found.begun[name]
        for path in answered:
            assert (ended.count(path), begun.count(path)) == (1, 1), (name, path)
        for path in died:  # begun, never ended, with the line that was written before
            assert (ended.count(path), begun.count(path)) == (0, 1), (name, path)
    assert died <= {text.removeprefix("request ").rpartition(" in ")[0] for text in found.logs}
