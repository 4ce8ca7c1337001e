"""Celery on RabbitMQ, in each of its pools; the workers are processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any

import celery
from context_hop import CONTEXTS, DEADLINE_S, Failure, Hop, Wait, Way, Work
from context_worker import do, done, note, process, set_up_worker, until

BROKER = "rabbitmq"
TASKS = 100

app = celery.Celery("matrix", broker=os.environ["BROKER_URL"])
app.conf.update(worker_hijack_root_logger=False, worker_enable_remote_control=True, task_ignore_result=True)


def _keep_results() -> None:
    """Where both sides find them, without one more server."""
    note("results").mkdir(exist_ok=True)
    app.conf.result_backend = f"file://{note('results')}"


if set_up_worker():
    _keep_results()


@app.task(throws=(Failure,))
def work_on(name: str, tag: str) -> None:
    """What the others do as well, by its name."""
    do(name, tag)


@app.task(bind=True, max_retries=1)
def second_time(self: Any, name: str, tag: str) -> None:
    """Do it when tried again."""
    if not self.request.retries:
        raise self.retry(countdown=0)
    work_on(name, tag)


@app.task(ignore_result=False)
def begin() -> None:
    """What comes before the work in a chain or chord."""


@app.task(ignore_result=False)
def sleep(tag: str) -> None:
    """Until somebody ends it."""
    note(f"asleep {tag}").touch()
    time.sleep(DEADLINE_S)


Send = Callable[[str, str], Any]


def _by_delay(name: str, tag: str) -> Any:
    return work_on.delay(name, tag)


def _by_countdown(name: str, tag: str) -> Any:
    return work_on.apply_async((name, tag), countdown=0.05)


def _by_retry(name: str, tag: str) -> Any:
    return second_time.delay(name, tag)


def _by_chain(name: str, tag: str) -> Any:
    return celery.chain(begin.si(), work_on.si(name, tag))()


def _by_chord(name: str, tag: str) -> Any:
    return celery.chord([begin.si(), begin.si()], app=app)(work_on.si(name, tag))


def _eagerly(name: str, tag: str) -> Any:
    with suppress(Failure):
        return work_on.apply((name, tag))


def _hop(
    worker: Callable[[], AbstractContextManager[Any]], send: Send = _by_delay, cancel: Any = None
) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        def go(work: Work, tag: str) -> Wait:
            send(work.__name__, tag)
            return done(tag)

        _keep_results()
        with worker():
            yield Way(go, cancel)

    return opened


def _revoke(tag: str) -> Wait:
    """End a task that sleeps, with the child that it sleeps in."""
    result = sleep.delay(tag)

    async def revoked() -> None:
        until(note(f"asleep {tag}").exists)
        app.control.revoke(result.id, terminate=True, signal="SIGKILL")
        until(lambda: result.state == "REVOKED")

    return revoked


def _process(pool: str) -> Callable[[], AbstractContextManager[Any]]:
    options = ["--pool", pool, "--concurrency", "4", "--loglevel", "INFO"]
    quiet = ["--without-gossip", "--without-mingle"]
    return lambda: process("-m", "celery", "-A", "context_hops_celery", "worker", *options, *quiet)


@contextmanager
def _nobody() -> Iterator[None]:
    """No worker."""
    yield


HOPS = [
    Hop("Celery, threads pool", _hop(_process("threads")), contexts=CONTEXTS),
    Hop("Celery, prefork pool", _hop(_process("prefork"), cancel=_revoke), contexts=CONTEXTS),
    Hop("Celery, solo pool, chain", _hop(_process("solo"), _by_chain), contexts=TASKS),
    Hop("Celery, gevent pool, retry()", _hop(_process("gevent"), _by_retry), contexts=TASKS),
    Hop("Celery, eventlet pool, countdown", _hop(_process("eventlet"), _by_countdown), contexts=TASKS),
    Hop("Celery, threads pool, chord", _hop(_process("threads"), _by_chord), contexts=TASKS),
    Hop("Celery, eager", _hop(_nobody, _eagerly), contexts=CONTEXTS),
]
