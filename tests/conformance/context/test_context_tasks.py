"""What the matrix does not show of kombu, RQ, arq and dramatiq: attributes, failures, retries, old peers."""

from __future__ import annotations

import asyncio
import logging
import pickle
import queue
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import arq
import arq.worker
import dramatiq
import kombu
import pytest
import redis
import rq
import rq.worker
from arq.connections import RedisSettings
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import Retries
from rq.repeat import Repeat
from rq.timeouts import TimerDeathPenalty

import tracing
from tracing.instrumentation.arq import KEY
from tracing.instrumentation.dramatiq import OPTION
from tracing.instrumentation.rq import META
from tracing.testing import Captured, capturing

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "deploy" / "dev"))

from devservers import ServerUnavailable  # found by the line above
from devservers.redis import Redis

log = logging.getLogger("shop")
LIBRARIES = ("redis", "kombu", "rq", "arq", "dramatiq", "pika")


@pytest.fixture(scope="module")
def url(need: Callable[[bool, str], None]) -> Iterator[str]:
    """Of a real Redis."""
    try:
        server = Redis()
    except ServerUnavailable as error:
        need(False, str(error))
        raise
    with server:
        yield server.url


@pytest.fixture
def captured() -> Iterator[Captured]:
    """With the task queues instrumented, and put back."""
    with capturing() as lines:
        tracing.instrument(*LIBRARIES)
        yield lines
        tracing.uninstrument()


def kinds(captured: Captured) -> dict[str, list[dict[str, Any]]]:
    """The spans by their kind."""
    found: dict[str, list[dict[str, Any]]] = {}
    for span in captured.spans:
        found.setdefault(span["span_kind"], []).append(span)
    return found


def exception_types(span: dict[str, Any]) -> list[str]:
    """Of what is recorded on a span."""
    return [event["attributes"]["exception.type"].rpartition(".")[2] for event in span.get("events", ())]


# ---------------------------------------------------------------- kombu


def test_kombu_records_a_failure_of_a_callback(captured: Captured) -> None:
    """On the consumer's span, which is below the producer's; the exception passes on."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with kombu.Connection("memory://") as connection:
        orders = kombu.Queue("orders", kombu.Exchange("orders"), routing_key="orders")
        with tracing.span("request"):
            connection.Producer().publish("7", exchange="orders", routing_key="orders", declare=[orders])
        with connection.Consumer([orders], callbacks=[fail]), pytest.raises(ZeroDivisionError):
            connection.drain_events(timeout=5)
    [sent], [ran] = kinds(captured)["PRODUCER"], kinds(captured)["CONSUMER"]
    assert ran["parent_span_id"] == sent["span_id"] and sent["name"] == "send orders:orders"
    assert ran["name"] == "process orders:orders" and exception_types(ran) == ["ZeroDivisionError"]
    assert tracing.current_span_id() is None


def test_a_simple_queue_s_message_ends_with_the_next(captured: Captured) -> None:
    """Its buffer is kombu's own: there is one consumer span a message, for as long as it is worked on."""
    with kombu.Connection("memory://") as connection, connection.SimpleQueue("simple") as simple:
        for number in range(2):
            with tracing.span(f"request {number}"):
                simple.put(number)
        simple.get(timeout=5)
        inside = tracing.current_span_id()
        simple.get(timeout=5)
        assert tracing.current_span_id() not in (None, inside)
        with pytest.raises(queue.Empty):
            simple.get(timeout=0.01)
        assert tracing.current_span_id() is None
    first, _ = kinds(captured)["CONSUMER"]
    assert first["span_id"] == inside


# ---------------------------------------------------------------- RQ


def rq_work(order: int) -> int:
    """A job: fails for zero."""
    log.warning("order %d", order)
    return 12 // order


def perform(queue_: rq.Queue) -> None:
    """Run what is enqueued, here."""

    class Worker(rq.worker.SimpleWorker):
        death_penalty_class = TimerDeathPenalty

        def _install_signal_handlers(self) -> None: ...

    Worker([queue_], connection=queue_.connection).work(burst=True, logging_level="WARNING")


def test_rq_says_what_it_runs(captured: Captured, url: str) -> None:
    """Function, queue and id; the result's stream in Redis is nobody's message."""
    jobs = rq.Queue("orders", connection=redis.Redis.from_url(url))
    with tracing.span("request"):
        job = jobs.enqueue(rq_work, 3)
    perform(jobs)
    assert job.latest_result().return_value == 4 and tracing.current_span_id() is None
    [sent], [ran] = kinds(captured)["PRODUCER"], kinds(captured)["CONSUMER"]
    assert sent["parent_span_id"] == captured.span("request")["span_id"]
    assert ran["parent_span_id"] == sent["span_id"] and ran["name"].startswith("process ")
    expected = {
        "messaging.system": "rq",
        "messaging.destination.name": "orders",
        "messaging.message.id": job.id,
    }
    assert expected.items() <= ran["attributes"].items() and expected.items() <= sent["attributes"].items()
    assert [line["span_id"] for line in captured.logs if line["message"] == "order 3"] == [ran["span_id"]]


def test_a_look_at_an_rq_result_ends_no_message(captured: Captured, url: str) -> None:
    """A consumer of a stream may wait for a job by the same client, and goes on with its message."""
    client = redis.Redis.from_url(url)
    job = rq.Queue("result", connection=client).enqueue(rq_work, 3)
    client.xadd("orders", {"order": 1})
    client.xread({"orders": "0"})
    inside = tracing.current_span_id()
    assert job.latest_result(timeout=1) is None and tracing.current_span_id() == inside is not None
    client.xread({"orders": "$"})
    client.flushdb()


def test_rq_tries_again_below_the_attempt_that_failed(captured: Captured, url: str) -> None:
    """And each attempt has its exception."""
    jobs = rq.Queue("again", connection=redis.Redis.from_url(url))
    jobs.enqueue(rq_work, 0, retry=rq.Retry(max=1))
    perform(jobs)
    sends = {span["span_id"]: span for span in kinds(captured)["PRODUCER"]}
    first, second = kinds(captured)["CONSUMER"]
    assert sends[second["parent_span_id"]]["parent_span_id"] == first["span_id"]
    assert [exception_types(span) for span in (first, second)] == [["ZeroDivisionError"]] * 2
    assert first["level"] == second["level"] == "ERROR"


def test_rq_repeats_in_traces_of_their_own(captured: Captured, url: str) -> None:
    """A job that comes back for ever would make one trace of it."""
    jobs = rq.Queue("repeat", connection=redis.Redis.from_url(url))
    with tracing.span("request"):
        job = jobs.enqueue(rq_work, 3)
    job.repeats_left = 1
    with tracing.span("worker"):
        Repeat.schedule(job, jobs)
    perform(jobs)
    traces = {span["trace_id"] for span in kinds(captured)["CONSUMER"]}
    repeat = next(span for span in captured.spans if span["name"].startswith("repeat "))
    assert repeat["trace_id"] in traces and repeat["trace_id"] != captured.span("worker")["trace_id"]


def test_an_rq_worker_without_the_library_runs_the_job(captured: Captured, url: str) -> None:
    """The program's `meta` is as it was; ours is one key beside."""
    jobs = rq.Queue("old", connection=redis.Redis.from_url(url))
    with tracing.span("request"):
        job = jobs.enqueue(rq_work, 3, meta={"tenant": "acme"})
    tracing.uninstrument()
    perform(jobs)
    job.refresh()
    assert job.return_value() == 4 and job.meta.pop(META).keys() == {"traceparent", "X-Trace-ID"}
    assert job.meta == {"tenant": "acme"} and "CONSUMER" not in kinds(captured)


# ---------------------------------------------------------------- arq


async def arq_work(context: Any, order: int) -> int:
    """A job: fails for zero, asks for another try at first for one."""
    log.warning("order %d", order)
    if order == 1 and context["job_try"] == 1:
        raise arq.Retry(defer=0)
    return 12 // order


async def arq_run(url: str, *orders: int, between: Callable[[], None] = lambda: None) -> arq.worker.Worker:
    """Enqueue jobs, each inside a request of its own, and run them."""
    settings = RedisSettings.from_dsn(url)
    pool = await arq.create_pool(settings)
    for order in orders:
        with tracing.span(f"request {order}"):
            await pool.enqueue_job("arq_work", order, _job_id=f"job-{order}")
    between()
    worker = arq.worker.Worker(
        [arq_work], redis_settings=settings, burst=True, handle_signals=False, poll_delay=0.01
    )
    await worker.async_run()
    await worker.close()
    await pool.flushdb()
    await pool.aclose()
    return worker


def test_arq_says_what_it_runs_and_what_failed(captured: Captured, url: str) -> None:
    """Function, queue and id, the exception, and a try that asked for another; arq's own lines are inside."""
    worker = asyncio.run(arq_run(url, 0, 1))
    runs: dict[str, list[dict[str, Any]]] = {}
    for span in kinds(captured)["CONSUMER"]:
        runs.setdefault(span["attributes"]["messaging.message.id"], []).append(span)
    [failed], [first, second] = runs["job-0"], runs["job-1"]
    assert exception_types(failed) == ["ZeroDivisionError"] and failed["level"] == "ERROR"
    assert "arq.retry" in first["attributes"] and first["level"] == second["level"] == "INFO"
    assert first["trace_id"] == second["trace_id"] == captured.span("request 1")["trace_id"]
    assert failed["attributes"]["messaging.destination.name"] == "arq:queue"
    [said] = [line for line in captured.logs if "failed, ZeroDivisionError" in line["message"]]
    assert said["span_id"] == failed["span_id"]
    tracing.uninstrument()
    assert worker.functions["arq_work"].coroutine is arq_work, "it was watched, and is the program's again"


def test_an_arq_worker_without_the_library_runs_the_job(captured: Captured, url: str) -> None:
    """Its reading of a job passes over our key."""
    worker = asyncio.run(arq_run(url, 3, between=tracing.uninstrument))
    assert worker.jobs_complete == 1 and "CONSUMER" not in kinds(captured)

    async def stored() -> Any:
        tracing.instrument("arq")
        pool = await arq.create_pool(RedisSettings.from_dsn(url))
        with tracing.span("request"):
            job = await pool.enqueue_job("arq_work", 3)
        assert job is not None
        found = await pool.get(f"arq:job:{job.job_id}")
        await pool.flushdb()
        await pool.aclose()
        return found

    assert pickle.loads(asyncio.run(stored()))[KEY]["traceparent"].startswith("00-")


def test_arq_cron_jobs_begin_traces(captured: Captured, url: str) -> None:
    """Whatever the worker was started in."""

    async def tick(_: Any) -> None:
        log.warning("tick")

    async def run() -> None:
        cron = arq.cron(tick, run_at_startup=True, unique=False)
        settings = RedisSettings.from_dsn(url)
        options: dict[str, Any] = {"burst": True, "handle_signals": False, "poll_delay": 0.01}
        worker = arq.worker.Worker(cron_jobs=[cron], redis_settings=settings, **options)
        with tracing.span("main"):
            await worker.async_run()
        await worker.pool.flushdb()
        await worker.close()

    asyncio.run(run())
    [sent] = kinds(captured)["PRODUCER"]
    [line] = [line for line in captured.logs if line["message"] == "tick"]
    assert "parent_span_id" not in sent and line["trace_id"] == sent["trace_id"]
    assert sent["trace_id"] != captured.span("main")["trace_id"]


# ---------------------------------------------------------------- dramatiq


class Throw(Exception):
    """What an actor says that it may raise."""


def dramatiq_run(broker: StubBroker, *messages: Any) -> None:
    """Send messages, each inside a request of its own, and run them to their ends."""
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
    for message in messages:
        with tracing.span("request"):
            broker.enqueue(message)
    worker.start()
    broker.join("default", timeout=20_000, fail_fast=False)
    worker.join()
    worker.stop()


@pytest.fixture
def broker() -> Iterator[StubBroker]:
    """In this process."""
    made = StubBroker(middleware=[Retries(min_backoff=1, max_backoff=1)])
    made.emit_after("process_boot")
    yield made
    made.close()


def test_dramatiq_says_what_it_runs(captured: Captured, broker: StubBroker) -> None:
    """Actor, queue and id; the message that the program holds is not touched."""

    @dramatiq.actor(broker=broker, actor_name="charge")
    def charge(order: int) -> None:
        log.warning("order %d", order)

    message = charge.message(3)
    dramatiq_run(broker, message)
    [sent], [ran] = kinds(captured)["PRODUCER"], kinds(captured)["CONSUMER"]
    assert ran["parent_span_id"] == sent["span_id"] and ran["name"] == "process charge"
    assert ran["attributes"]["messaging.message.id"] == message.message_id
    assert ran["attributes"]["messaging.destination.name"] == "default"
    assert [line["span_id"] for line in captured.logs if line["message"] == "order 3"] == [ran["span_id"]]
    assert OPTION not in message.options


def test_dramatiq_tries_again_below_the_attempt_that_failed(captured: Captured, broker: StubBroker) -> None:
    """And what an actor was expected to raise, or raised as an answer, is no failure."""
    tries: list[int] = []

    @dramatiq.actor(broker=broker, actor_name="charge", max_retries=1)
    def charge() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ZeroDivisionError

    @dramatiq.actor(broker=broker, actor_name="throw", throws=(Throw,))
    def throw() -> None:
        raise Throw

    dramatiq_run(broker, charge.message(), throw.message())
    first, second = [span for span in kinds(captured)["CONSUMER"] if span["name"] == "process charge"]
    sends = {span["span_id"]: span for span in kinds(captured)["PRODUCER"]}
    assert sends[second["parent_span_id"]]["parent_span_id"] == first["span_id"]
    assert exception_types(first) == ["ZeroDivisionError"] and first["level"] == "ERROR"
    assert second["level"] == "INFO" and second["attributes"]["dramatiq.retries"] == 1
    thrown = captured.span("process throw")
    assert exception_types(thrown) == ["Throw"] and thrown["level"] == "INFO"


def test_a_dramatiq_worker_without_the_library_runs_the_message(
    captured: Captured, broker: StubBroker
) -> None:
    """An option that nobody knows is passed over."""
    done: list[int] = []
    charge = dramatiq.actor(done.append, broker=broker, actor_name="charge")
    with tracing.span("request"):
        assert OPTION in charge.send(3).options
    tracing.uninstrument()
    dramatiq_run(broker)
    assert done == [3] and "CONSUMER" not in kinds(captured)


# ---------------------------------------------------------------- all of them


def test_removal_puts_the_libraries_back(captured: Captured) -> None:
    """Each method is its library's own again."""
    tracing.uninstrument()
    places: list[tuple[Any, str]] = [
        (kombu.Producer, "publish"),
        (kombu.Consumer, "_receive_callback"),
        (kombu.Queue, "get"),
        (rq.Queue, "enqueue_job"),
        (rq.job.Job, "perform"),
        (rq.worker.BaseWorker, "perform_job"),
        (rq.results.Result, "save"),
        (arq.ArqRedis, "enqueue_job"),
        (arq.worker.Worker, "run_job"),
        (arq.worker, "deserialize_job_raw"),
        (StubBroker, "enqueue"),
        (dramatiq.worker.WorkerThread, "process_message"),
    ]
    ours = [name for place, name in places if "tracing" in getattr(place, name).__code__.co_filename]
    assert ours == []
