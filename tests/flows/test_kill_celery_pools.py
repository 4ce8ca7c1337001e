"""Celery workers of every pool under kills: what was done is one chain, what was cut off shows where.

Tasks are acknowledged late, so that one whose process died is done again, by another process: it then has a
consumer's span that was begun and one that is complete, both of the same message. A program writes down each
log call that has returned; none of these lines may be missing.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "deploy" / "dev"))

from devservers import ServerUnavailable
from devservers.rabbitmq import RabbitMQ

from tracing.spool.adoption import spools
from tracing.spool.reader import read_lines

POOLS = ["prefork", "threads", "gevent"]
CONCURRENCY = 3
SEED = 7
SIZES = [  # tasks; those that kill their process, and processes that are killed
    (60, 1, 1),
    pytest.param(2000, 20, 20, marks=pytest.mark.soak),
]
PATIENCE_S = 900  # forty workers that start again one after the other, on a busy machine

SHOP = """
    import logging, os, signal, sys
    import tracing

    tracing.configure(service=os.environ["SERVICE"], ship=False)
    tracing.instrument()
    from celery import Celery

    here = os.environ["SHOP_DIR"]
    app = Celery("shop", broker=os.environ["BROKER_URL"])
    app.conf.update(
        task_default_queue=os.environ["QUEUE"], task_ignore_result=True, worker_prefetch_multiplier=1,
        task_acks_late=True, task_reject_on_worker_lost=True, task_acks_on_failure_or_timeout=False,
    )
    returned = os.open(f"{here}/returned", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(text):
        logging.getLogger("shop").warning("%s", text)
        os.write(returned, f"{os.getpid()} {text}\\n".encode())  # the log call has returned

    @app.task
    def charge(number, dies):
        say(f"charging {number}")
        if dies:
            try:
                os.mkdir(f"{here}/died-{number}")  # once
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        say(f"charged {number}")

    if __name__ == "__main__":
        dying = set(map(int, os.environ["DYING"].split()))
        for number in range(int(os.environ["TASKS"])):
            with tracing.span(f"order {number}"):
                charge.delay(number, number in dying)
"""


@pytest.fixture(scope="module")
def broker(need: Callable[[bool, str], None]) -> Iterator[str]:
    """The URL of a real RabbitMQ, which gives a task to somebody else once its connection is gone."""
    try:
        server = RabbitMQ()
    except ServerUnavailable as error:
        need(False, str(error))
        raise
    with server:
        yield server.url


class Shop:
    """The program's files, its workers, and who kills them."""

    def __init__(self, directory: Path, pool: str, broker: str) -> None:
        self._directory = directory
        self._chance = random.Random(SEED)
        self._worker: subprocess.Popen[bytes] | None = None
        self._pool = pool
        self._output = (directory / "worker.log").open("ab")
        (directory / "shop.py").write_text(textwrap.dedent(SHOP))
        outer = {
            name: value for name, value in os.environ.items() if not name.startswith(("TRACING_", "OTEL_"))
        }
        self._env = outer | {
            "PYTHONPATH": os.pathsep.join([str(directory), *filter(None, sys.path)]),
            "SHOP_DIR": str(directory),
            "BROKER_URL": broker,
            "QUEUE": directory.name,  # what another pool left is none of ours
            "TRACING_SPOOL_DIR": str(directory / "spool"),
        }

    def order(self, tasks: int, dying: set[int]) -> None:
        """Send all tasks."""
        env = self._env | {"SERVICE": "shop", "TASKS": str(tasks), "DYING": " ".join(map(str, dying))}
        subprocess.run([sys.executable, str(self._directory / "shop.py")], env=env, check=True, timeout=120)

    def keep_working(self) -> None:
        """Start a worker, unless one works."""
        if self._worker is None or self._worker.poll() is not None:
            self._worker = subprocess.Popen(
                [
                    *[sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", self._pool],
                    *["--concurrency", str(CONCURRENCY), "--without-gossip", "--without-mingle"],
                ],
                env=self._env | {"SERVICE": "payments"},
                cwd=self._directory,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
            )

    def returned(self) -> list[tuple[int, str]]:
        """Pids and messages of the log calls that have returned, in their order."""
        path = self._directory / "returned"
        lines = path.read_text().splitlines() if path.exists() else []
        pairs = (line.partition(" ") for line in lines)
        return [(int(pid), text) for pid, _, text in pairs]

    def kill_one(self) -> bool:
        """Kill one of the processes that have worked of late; whether there was any."""
        assert self._worker is not None
        known = sorted({pid for pid, _ in self.returned()[-20:]})
        self._chance.shuffle(known)
        for pid in known:
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) == self._worker.pid:  # else the number is somebody else's by now
                    os.kill(pid, signal.SIGKILL)
                    return True
        return False

    def said(self, what: str) -> str:
        """What went wrong, with the last words of the workers."""
        return f"{what}: {(self._directory / 'worker.log').read_text()[-3000:]}"

    def end(self) -> None:
        """Stop the worker, with the tasks that it has."""
        self._output.close()
        if self._worker is not None:
            self._worker.send_signal(signal.SIGTERM)
            try:
                self._worker.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self._worker.pid, signal.SIGKILL)
                self._worker.wait()

    def lines(self, service: str) -> list[dict[str, Any]]:
        """What the processes of a service have written."""
        found = spools(self._directory / "spool" / service)
        return [orjson.loads(line) for path in found for _, line in read_lines(path)]


@pytest.mark.flow
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(("tasks", "deaths", "kills"), SIZES)
def test_tasks_are_chains(
    pool: str, tasks: int, deaths: int, kills: int, tmp_path: Path, broker: str
) -> None:
    """From the order to the task that was done, over whatever was cut off in between."""
    chance = random.Random(SEED)
    dying = set(chance.sample(range(tasks), deaths))
    kill_at = sorted(chance.sample(range(tasks // 10, tasks), kills), reverse=True)  # tasks that are done
    shop = Shop(tmp_path, pool, broker)
    shop.order(tasks, dying)
    deadline_s = time.monotonic() + PATIENCE_S
    try:
        while (done := len(charged(shop.returned()))) < tasks:
            assert time.monotonic() < deadline_s, shop.said(f"{done} of {tasks} were done")
            shop.keep_working()
            if kill_at and done >= kill_at[-1] and shop.kill_one():
                kill_at.pop()
            time.sleep(0.01)
    finally:
        shop.end()
    check(shop, tasks, dying)


def charged(returned: list[tuple[int, str]]) -> set[int]:
    """Tasks that were done."""
    return {int(text.rpartition(" ")[2]) for _, text in returned if text.startswith("charged")}


def check(shop: Shop, tasks: int, dying: set[int]) -> None:
    """What was written fits what happened."""
    lines = shop.lines("payments")
    logs = [line for line in lines if line.get("logger") == "shop"]
    written = Counter(line["message"] for line in logs)
    assert Counter(text for _, text in shop.returned()) - written == Counter()
    sent = {line["span_id"]: line for line in shop.lines("shop") if line.get("kind") == "span"}
    begun = {line["span_id"]: line for line in lines if line.get("kind") == "span_start"}
    ended = {line["span_id"]: line for line in lines if line.get("kind") == "span"}
    cut_off: Counter[int] = Counter()
    complete: set[int] = set()
    for line in logs:
        number = int(line["message"].rpartition(" ")[2])
        consumer = begun[line["span_id"]]
        producer = sent[consumer["parent_span_id"]]
        assert (consumer["span_kind"], producer["span_kind"]) == ("CONSUMER", "PRODUCER")
        assert sent[producer["parent_span_id"]]["name"] == f"order {number}"
        assert consumer["trace_id"] == producer["trace_id"] == line["trace_id"]
        if line["span_id"] not in ended:
            cut_off[number] += 1
        elif line["message"].startswith("charged"):
            complete.add(number)
    assert dying <= cut_off.keys(), "the span that died is unfinished"
    # A task whose process was killed between its last line and its end is done, and was not sent again yet.
    assert set(range(tasks)) - complete <= cut_off.keys()
