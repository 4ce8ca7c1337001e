"""Workers of task queues that die at work: the run stays visible, unfinished, with every line until then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from tracing.spool.adoption import spools
from tracing.spool.reader import read_lines

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "dev"))

from devservers import ServerUnavailable  # found by the line above
from devservers.redis import Redis

DEADLINE_S = 90

COMMON = """
    import logging, os, signal, sys, time
    import tracing

    tracing.configure(service="shop", level="INFO", ship=False)
    tracing.instrument()

    def die():
        logging.getLogger("shop").warning("about to die")
        os.kill(os.getpid(), signal.SIGKILL)
"""

CELERY = (
    COMMON
    + """
    import celery

    app = celery.Celery("shop", broker="filesystem://")
    for name in ("queue", "control"):
        os.makedirs(name, exist_ok=True)
    folders = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
    app.conf.update(broker_transport_options=folders, task_ignore_result=True)

    @app.task(name="shop.die")
    def killed():
        die()

    if __name__ == "__main__":
        with tracing.span("request"):
            killed.delay()
"""
)

RQ = (
    COMMON
    + """
    import redis, rq, rq.worker

    jobs = rq.Queue(connection=redis.Redis.from_url(os.environ["REDIS_URL"]))

    def serve():
        rq.worker.Worker([jobs], connection=jobs.connection).work()

    if __name__ == "__main__":
        with tracing.span("request"):
            jobs.enqueue("shop.die")
"""
)


def lines(root: Path) -> list[dict[str, Any]]:
    """All that was written so far, by whichever process."""
    services = [path for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    return [
        orjson.loads(line) for service in services for path in spools(service) for _, line in read_lines(path)
    ]


@contextmanager
def worker(directory: Path, *arguments: str, env: dict[str, str]) -> Iterator[None]:
    """A worker in a process of its own."""
    with (directory / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=directory, env=env, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(found: Callable[[], Any], what: str) -> Any:
    """What is found, as soon as it is."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (answer := found()):
        assert time.monotonic() < deadline_s, f"{what} was never there"
        time.sleep(0.1)
    return answer


def check(root: Path, task: str, epitaph: str) -> dict[str, Any]:
    """The dead child's start and line, and what its worker says of it, are in the request's trace.

    Returns:
        The start.
    """

    def said() -> list[dict[str, Any]]:
        return [line for line in lines(root) if epitaph in line.get("message", "")]

    [epitaph_line, *_] = until(said, epitaph)
    found = lines(root)
    [request] = [line for line in found if line.get("kind") == "span" and line["name"] == "request"]
    starts = [
        line for line in found if line.get("kind") == "span_start" and line["name"] == f"process {task}"
    ]
    [start] = starts
    [last] = [line for line in found if line.get("message") == "about to die"]
    assert start["trace_id"] == last["trace_id"] == epitaph_line["trace_id"] == request["trace_id"]
    assert last["span_id"] == start["span_id"] and start["span_kind"] == "CONSUMER"
    assert start["span_id"] not in {line["span_id"] for line in found if line.get("kind") == "span"}
    return start


def environment(directory: Path, **extra: str) -> dict[str, str]:
    """Of programs that write into a spool of this test."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))}
    path = os.pathsep.join([str(directory), outer.get("PYTHONPATH", "")])
    return outer | {"PYTHONPATH": path, "TRACING_SPOOL_DIR": str(directory / "spool")} | extra


@pytest.mark.flow
def test_a_celery_child_that_is_killed_at_work(tmp_path: Path) -> None:
    """The main process says so, in the trace of the task."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(CELERY))
    env = environment(tmp_path)
    options = ["--pool", "prefork", "--concurrency", "1", "--without-gossip", "--without-mingle"]
    subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, env=env, check=True, timeout=DEADLINE_S)
    with worker(tmp_path, "-m", "celery", "-A", "shop", "worker", *options, "-l", "INFO", env=env):
        start = check(tmp_path / "spool", "shop.die", "WorkerLostError")
    task_id = start["attributes"]["messaging.message.id"]
    about = [line for line in lines(tmp_path / "spool") if task_id in line.get("message", "")]
    assert {line.get("trace_id") for line in about} == {start["trace_id"]}, (
        "received, for one, is said before"
    )


@pytest.mark.flow
def test_an_rq_child_that_is_killed_at_work(tmp_path: Path, need: Callable[[bool, str], None]) -> None:
    """The worker that forked it says so, in the trace of the job."""
    try:
        server = Redis()
    except ServerUnavailable as error:
        need(False, str(error))
        raise
    (tmp_path / "shop.py").write_text(textwrap.dedent(RQ))
    with server:
        env = environment(tmp_path, REDIS_URL=server.url)
        subprocess.run([sys.executable, "shop.py"], cwd=tmp_path, env=env, check=True, timeout=DEADLINE_S)
        with worker(tmp_path, "-c", "import shop; shop.serve()", env=env):
            check(tmp_path / "spool", "shop.die", "Work-horse terminated unexpectedly")
