"""Servers with several processes: each worker logs and traces under its own identity.

Workers are killed while they answer, by themselves in the middle of a request and from outside at any moment.
Every request that was answered is complete: its log lines and its spans; one whose worker died shows the span
as begun. Every line whose log call had returned is there: the program writes down each such moment itself.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import orjson
import pytest

from tracing.spool.adoption import spools
from tracing.spool.reader import read_lines, segment_paths

WORKERS = 3
CLIENTS = 4
SEED = 7
SIZES = [  # requests; workers that kill themselves, and that are killed
    (60, 2, 2),
    pytest.param(2000, 20, 20, marks=pytest.mark.soak),
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

    returned = os.open(os.environ["RETURNED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(text):
        log.warning("%s in %d", text, os.getpid())
        os.write(returned, f"{text}\\n".encode())  # the log call has returned: nothing may lose its line

    def work(path):
        with tracing.span("work", path=path):
            say(f"request {path}")
            if path.startswith("/die"):
                os.kill(os.getpid(), signal.SIGKILL)
            say(f"answering {path}")
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


@dataclass(frozen=True, slots=True)
class Server:
    """How one is started, and what it survives.

    Attributes:
        is_frail: whether it gives up when a worker that it started again dies soon after.
    """

    command: list[str]
    is_frail: bool = False


SERVERS = {
    "gunicorn sync": Server(GUNICORN),
    "gunicorn gthread": Server([*GUNICORN, "--threads", "2"]),
    "gunicorn gevent": Server([*GUNICORN, "--worker-class", "gevent"]),
    # These begin afresh; another one is started for each that died.
    "uvicorn": Server(
        [
            *["-m", "uvicorn", "--workers", str(WORKERS), "--lifespan", "off", "--port", "{port}"],
            "app:asgi_application",
        ]
    ),
    # A worker that it started again may not die within 5.5 s. Told to end after workers were killed it hung
    # in one of five rounds, without us too; with the timeout in none.
    "granian": Server(
        [
            *["-m", "granian", "--interface", "asgi", "--workers", str(WORKERS), "--port", "{port}"],
            *["--respawn-failed-workers", "--workers-kill-timeout", "2", "app:asgi_application"],
        ],
        is_frail=True,
    ),
    # Its workers are made by a fork of its own, without Python's hooks (no --py-call-osafterfork).
    "uwsgi": Server(
        [
            *["-c", "import sys, pyuwsgi; pyuwsgi.run(sys.argv[1:])", "--http-socket", "127.0.0.1:{port}"],
            *[
                "--master",
                "--processes",
                str(WORKERS),
                "--wsgi-file",
                "app.py",
                "--need-app",
                "--die-on-term",
            ],
        ]
    ),
}


def answer(url: str) -> str | None:
    """What the server says; `None` while it does not listen, or when its worker died."""
    try:
        with urlopen(url, timeout=30) as response:
            return str(response.read().decode())
    except (OSError, HTTPException):
        return None


class Load:
    """Clients that ask for every path, and a killer who shoots at a worker between their answers.

    Args:
        session: of the server's processes; nobody else is shot at.
        targets: pids; `None`: whoever has answered.
    Attributes:
        answered: the worker's pid, by path.
        killed: pids.
    """

    def __init__(
        self, url: str, session: int, paths: list[str], kills: int, targets: set[int] | None
    ) -> None:
        self._url = url
        self._session = session
        self._paths = paths
        self._targets = targets
        self._chance = random.Random(SEED)
        self._kill_at = set(self._chance.sample(range(len(paths) // 10, len(paths)), kills))
        self._lock = threading.Lock()
        self.answered: dict[str, int] = {}
        self.killed: set[int] = set()

    def run(self) -> None:
        """Until all have been asked for once."""
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(self._ask, enumerate(self._paths)))

    def _ask(self, numbered: tuple[int, str]) -> None:
        number, path = numbered
        if number in self._kill_at:
            self._kill()
        pid = answer(self._url + path)
        if pid is not None:
            with self._lock:
                self.answered[path] = int(pid)

    def _kill(self) -> None:
        """One of those that have answered so far and still live; the others' requests are under way."""
        with self._lock:
            known = sorted((self._targets or set(self.answered.values())) - self.killed)
            self._chance.shuffle(known)
            for pid in known:
                with contextlib.suppress(ProcessLookupError):
                    if os.getsid(pid) == self._session:  # else the number is somebody else's by now
                        os.kill(pid, signal.SIGKILL)
                        self.killed.add(pid)
                        return


class Written:
    """What all processes of the service have written.

    Attributes:
        logs: messages without the pid, which is checked, with the pid.
        begun: spans by name and path; `ended` likewise.
    """

    def __init__(self, service: Path) -> None:
        self.logs: Counter[tuple[str, int]] = Counter()
        self.begun: Counter[tuple[str, str]] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        for path in spools(service):
            header = orjson.loads(segment_paths(path)[0].read_bytes().partition(b"\n")[0])
            own_pid = header["resource"]["process.pid"]
            for line in (orjson.loads(data) for _, data in read_lines(path)):
                if "name" in line:
                    kept = {"span_start": self.begun, "span": self.ended}[line["kind"]]
                    attributes = line["attributes"]
                    kept[line["name"], attributes.get("path") or attributes["url.path"]] += 1
                elif line.get("logger") == "shop":  # the server logs too
                    said, _, pid = line["message"].rpartition(" in ")
                    assert line["message"].startswith("boot") or int(pid) == own_pid
                    self.logs[said, own_pid] += 1


@pytest.mark.flow
@pytest.mark.parametrize("server", list(SERVERS))
@pytest.mark.parametrize(("requests", "deaths", "kills"), SIZES)
def test_workers_of_a_server(
    server: str, requests: int, deaths: int, kills: int, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Every answered request is logged and traced once, under the process that answered it."""
    is_frail = SERVERS[server].is_frail
    if is_frail:
        deaths, kills = 0, WORKERS - 1
    root, port = tmp_path / "spool", free_port()
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    process = subprocess.Popen(
        [sys.executable, *(part.format(port=port) for part in SERVERS[server].command)],
        env=outer
        | {
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
            "RETURNED": str(tmp_path / "returned"),
            "TRACING_SPOOL_DIR": str(root),
            "TRACING_COLLECTOR_URL": "http://127.0.0.1:9",
        },
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    paths = [f"/{number}" for number in range(requests)]
    died = [f"/die/{number}" for number in range(deaths)]
    for path in died:
        paths.insert(random.Random(f"{SEED}{path}").randrange(len(paths)), path)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline_s = time.monotonic() + 60
        first: set[str | None] = {None}
        while len(first - {None}) < (WORKERS if is_frail else 1):
            assert time.monotonic() < deadline_s, "the server does not listen"
            assert process.poll() is None, "the server has ended"
            first.add(answer(f"{url}/ready"))
            time.sleep(0.05)
        targets = {int(pid) for pid in first if pid is not None} if is_frail else None
        load = Load(url, process.pid, paths, kills, targets)
        load.run()
    finally:
        process.terminate()
        process.wait(60)
    assert len(load.killed) == kills and not set(died) & load.answered.keys()
    # A killed worker takes along what it holds and what waits to be accepted by it.
    assert len(load.answered) >= requests - (deaths + kills) * CLIENTS
    check(Written(root / "web"), load, paths, died, (tmp_path / "returned").read_text().splitlines())


def check(found: Written, load: Load, paths: list[str], died: list[str], returned: list[str]) -> None:
    """What was written fits what happened."""
    for path, pid in load.answered.items():
        assert (found.logs[f"request {path}", pid], found.logs[f"answering {path}", pid]) == (1, 1)
        assert (found.begun["work", path], found.ended["work", path]) == (1, 1)
        # Killed between the answer and the end of the server's span, it shows that as unfinished.
        unfinished = found.begun["GET", path] - found.ended["GET", path]
        assert found.begun["GET", path] == 1 and unfinished in ((0, 1) if pid in load.killed else (0,))
    # One that was shot from outside, or had one that was as its neighbour, may not have begun.
    reached = [path for path in died if f"request {path}" in returned]
    assert len(reached) >= len(died) // 2
    for path in reached:  # begun, never ended, with the line that was written before
        for name in ("work", "GET"):
            assert (found.begun[name, path], found.ended[name, path]) == (1, 0), (name, path)
    for path in paths:  # of those without an answer as well
        for name in ("work", "GET"):
            assert 0 <= found.ended[name, path] <= found.begun[name, path] <= 1, (name, path)
    said = Counter(text for text, _ in found.logs.elements())
    assert Counter(returned) - said == Counter()
