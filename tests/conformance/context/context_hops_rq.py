"""RQ: a worker that forks for each job, one that does not, and a queue that performs its jobs itself."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

import redis
import rq
import rq.command
import rq.worker
from context_hop import DEADLINE_S, Hop, Wait, Way, Work
from context_worker import do, done, note, process, set_up_worker, until

BROKER = "redis"
JOBS = 100
FORKS = 20  # a process for each

set_up_worker()

server = redis.Redis.from_url(os.environ["BROKER_URL"])


def work_on(name: str, tag: str) -> None:
    """What the others do as well, by its name."""
    do(name, tag)


def begin() -> None:
    """What the work waits for."""


def second_time(name: str, tag: str) -> None:
    """Do it when tried again."""
    first = note(f"first {tag}")
    if not first.exists():
        first.touch()
        raise RuntimeError("try again")
    do(name, tag)


def sleep(tag: str) -> None:
    """Until somebody ends it."""
    note(f"asleep {tag}").touch()
    time.sleep(DEADLINE_S)


def serve(worker: str) -> None:
    """Run a worker until SIGTERM."""
    getattr(rq.worker, worker)([rq.Queue(connection=server)], connection=server).work(logging_level="ERROR")


Send = Callable[[rq.Queue, str, str], Any]


def _hop(worker: str, send: Send, cancel: Any = None) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        server.flushdb()
        queue = rq.Queue(connection=server, is_async=bool(worker))

        def go(work: Work, tag: str) -> Wait:
            send(queue, work.__name__, tag)
            return done(tag)

        with _serving(worker):
            yield Way(go, cancel)

    return opened


def _serving(worker: str) -> AbstractContextManager[None]:
    return (
        process("-c", f"import context_hops_rq; context_hops_rq.serve({worker!r})") if worker else _nobody()
    )


@contextmanager
def _nobody() -> Iterator[None]:
    """No worker."""
    yield


def _enqueue(queue: rq.Queue, name: str, tag: str) -> Any:
    return queue.enqueue(work_on, name, tag)


def _enqueue_many(queue: rq.Queue, name: str, tag: str) -> Any:
    return queue.enqueue_many([queue.prepare_data(begin), queue.prepare_data(work_on, (name, tag))])


def _after_another(queue: rq.Queue, name: str, tag: str) -> Any:
    return queue.enqueue(second_time, name, tag, depends_on=queue.enqueue(begin), retry=rq.Retry(max=1))


def _stop(tag: str) -> Wait:
    """End a job that sleeps, with the child that it sleeps in."""
    job = rq.Queue(connection=server).enqueue(sleep, tag)

    async def stopped() -> None:
        until(note(f"asleep {tag}").exists)
        rq.command.send_stop_job_command(server, job.id)
        until(lambda: job.get_status() == "stopped")

    return stopped


HOPS = [
    Hop("RQ, worker that forks", _hop("Worker", _enqueue, _stop), contexts=FORKS),
    Hop("RQ, SimpleWorker, enqueue_many", _hop("SimpleWorker", _enqueue_many), contexts=JOBS),
    Hop("RQ, depends_on and Retry", _hop("SimpleWorker", _after_another), contexts=JOBS),
    Hop("RQ, queue that is not async", _hop("", _enqueue), contexts=JOBS),
]
