"""What the matrix does not show of Celery: attributes, retries, failures, schedules, the worker's lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import celery
import celery.app.trace
import celery.beat
import celery.signals
import pytest
from celery.app.trace import fast_trace_task, setup_worker_optimizations
from celery.exceptions import Reject
from celery.utils.log import get_task_logger
from celery.worker import request as worker_request

import tracing
from tracing.testing import Captured, capturing

log = get_task_logger("shop")


class Expected(Exception):
    """What a task says that it may raise."""


@pytest.fixture
def captured() -> Iterator[Captured]:
    """With Celery instrumented, and put back."""
    with capturing() as lines:
        tracing.instrument("celery", "kombu")
        yield lines
        tracing.uninstrument()


@pytest.fixture
def app() -> Iterator[celery.Celery]:
    """Its messages stay in this process."""
    shop = celery.Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
    yield shop
    if shop.conf.broker_url == "memory://":
        shop.control.purge()  # the broker is one for all tests
    shop.close()


def messages(app: celery.Celery, queue: str = "celery") -> Iterator[Any]:
    """What was sent and not taken yet."""
    with app.connection_for_read() as connection:
        bound = app.amqp.queues[queue](connection.default_channel)
        while (message := bound.get(no_ack=True)) is not None:
            yield message


def work(app: celery.Celery, queue: str = "celery") -> int:
    """Run what was sent as a child of the pool does, one after the other; how many they were."""
    setup_worker_optimizations(app)
    count = 0
    for message in messages(app, queue):
        request = worker_request.Request(message, app=app)
        name, uuid = request.type, request.id
        tracer = celery.app.trace.build_tracer(name, app.tasks[name], app=app)
        app.tasks[name].__trace__ = tracer
        fast_trace_task(
            name, uuid, request.request_dict, request.body, request.content_type, request.content_encoding
        )
        count += 1
    return count


def runs(captured: Captured, name: str) -> list[dict[str, Any]]:
    """The spans of a task's runs."""
    return [span for span in captured.spans if span["name"] == f"process {name}"]


def test_a_run_says_what_it_is(captured: Captured, app: celery.Celery) -> None:
    """Task, queue and id under OpenTelemetry's names, on both sides; the log line of the task is inside."""

    @app.task(shared=False, name="shop.charge")
    def charge() -> None:
        log.warning("charging")

    with tracing.span("request"):
        result = charge.apply_async(queue="celery")
    assert work(app) == 1
    request, sent, [ran] = (
        captured.span("request"),
        captured.span("send shop.charge"),
        runs(captured, "shop.charge"),
    )
    assert sent["parent_span_id"] == request["span_id"] and ran["parent_span_id"] == sent["span_id"]
    assert (sent["span_kind"], ran["span_kind"]) == ("PRODUCER", "CONSUMER")
    for span, operation in ((sent, "send"), (ran, "process")):
        assert span["attributes"] == {
            "messaging.system": "celery",
            "messaging.operation.name": operation,
            "messaging.operation.type": operation,
            "messaging.destination.name": "celery",
            "messaging.message.id": result.id,
            "celery.task_name": "shop.charge",
        }
    [line] = [line for line in captured.logs if line["message"] == "charging"]
    assert line["span_id"] == ran["span_id"] and line["logger"] == "shop"
    [end] = [line for line in captured.logs if "succeeded" in line["message"]]
    assert end["span_id"] == ran["span_id"], "the worker's own line as well"


def test_a_retried_run_is_below_the_one_that_failed(captured: Captured, app: celery.Celery) -> None:
    """The earlier attempt stays visible, with what it failed with; the retry is told as its reason."""

    @app.task(
        shared=False,
        name="shop.charge",
        bind=True,
        autoretry_for=(OSError,),
        retry_backoff=False,
        max_retries=3,
    )
    def charge(task: Any) -> None:
        task.request.retries or open("/no such file")  # noqa: PTH123, SIM115

    charge.apply_async()
    assert work(app) == 2
    first, second = runs(captured, "shop.charge")[:2]
    sends = {span["span_id"]: span for span in captured.spans if span["name"] == "send shop.charge"}
    assert sends[second["parent_span_id"]]["parent_span_id"] == first["span_id"]
    assert first["trace_id"] == second["trace_id"]
    assert first["level"] == "ERROR" and first["attributes"]["celery.state"] == "RETRY"
    assert "No such file" in first["attributes"]["celery.retry.reason"]
    assert first["events"][0]["attributes"]["exception.type"] == "FileNotFoundError"
    assert second["attributes"]["celery.retries"] == 1 and second["level"] == "INFO"


def test_a_retry_without_an_error_is_none(captured: Captured, app: celery.Celery) -> None:
    """A task that only asks to be called later has not failed."""

    @app.task(shared=False, name="shop.poll", bind=True)
    def poll(task: Any) -> None:
        if not task.request.retries:
            raise task.retry(countdown=0)

    poll.apply_async()
    assert work(app) == 2
    first, _ = runs(captured, "shop.poll")
    assert first["level"] == "INFO" and first["attributes"]["celery.state"] == "RETRY"
    assert "events" not in first


def test_a_failure_is_on_the_span_unless_it_was_expected(captured: Captured, app: celery.Celery) -> None:
    """`throws` says what is expected; a rejected message is no failure of the task."""

    @app.task(shared=False, name="shop.fail")
    def fail() -> None:
        1 / 0

    @app.task(shared=False, name="shop.throw", throws=(Expected,))
    def throw() -> None:
        raise Expected("no stock")

    @app.task(shared=False, name="shop.reject")
    def reject() -> None:
        raise Reject("not mine", requeue=False)

    for task in (fail, throw, reject):
        task.apply_async()
    work(app)
    [failed], [thrown], [rejected] = (runs(captured, f"shop.{name}") for name in ("fail", "throw", "reject"))
    assert failed["level"] == "ERROR" and failed["status"]["code"] == "ERROR"
    assert failed["events"][0]["attributes"]["exception.type"] == "ZeroDivisionError"
    assert thrown["level"] == "INFO" and "no stock" in str(thrown["events"])
    assert rejected["level"] == "INFO" and rejected["attributes"]["celery.state"] == "REJECTED"


def test_handlers_of_signals_and_hooks_are_inside_the_run(captured: Captured, app: celery.Celery) -> None:
    """Before and after: OpenTelemetry's instrumentation has ended its span when the later ones are called."""

    @app.task(shared=False, name="shop.fail")
    def fail() -> None:
        1 / 0

    def said(what: str) -> Any:
        return lambda **_: logging.getLogger("handler").warning(what)

    handlers = [
        (celery.signals.task_prerun, said("prerun")),
        (celery.signals.task_postrun, said("postrun")),
        (celery.signals.task_failure, said("failure")),
    ]
    for signal, handler in handlers:
        signal.connect(handler, weak=False)
    try:
        fail.apply_async()
        work(app)
    finally:
        for signal, handler in handlers:
            signal.disconnect(handler)
    [ran] = runs(captured, "shop.fail")
    spans = {line["message"]: line.get("span_id") for line in captured.logs if line["logger"] == "handler"}
    assert spans == dict.fromkeys(("prerun", "postrun", "failure"), ran["span_id"])


def test_an_eager_task_is_below_its_caller(captured: Captured, app: celery.Celery) -> None:
    """Nothing was sent, so there is neither a producer nor a consumer."""

    @app.task(shared=False, name="shop.charge")
    def charge() -> str | None:
        return tracing.current_trace_id()

    with tracing.span("request"):
        here = tracing.current_trace_id()
        assert charge.apply().get() == here
    [ran] = runs(captured, "shop.charge")
    assert ran["span_kind"] == "INTERNAL" and ran["parent_span_id"] == captured.span("request")["span_id"]


def test_a_task_that_cannot_be_sent_leaves_nothing_behind(captured: Captured, app: celery.Celery) -> None:
    """The span ends with the error; OpenTelemetry's instrumentation leaves its span current for ever."""
    app.conf.broker_url = "amqp://127.0.0.1:1//"
    app.conf.task_publish_retry = False
    with pytest.raises(Exception, match="refused"):
        app.send_task("shop.unknown", retry=False)
    assert tracing.current_span_id() is None
    assert captured.span("send shop.unknown")["level"] == "ERROR"


def test_each_tick_of_a_schedule_is_a_trace(captured: Captured, app: celery.Celery) -> None:
    """Also where the scheduler itself was started inside a span; its own line belongs to the tick."""

    @app.task(shared=False, name="shop.sweep")
    def sweep() -> None: ...

    app.conf.beat_schedule = {"sweep": {"task": "shop.sweep", "schedule": timedelta(hours=1)}}
    scheduler = celery.beat.Scheduler(app)
    with tracing.span("main"):
        for entry in [*scheduler.schedule.values()] * 2:
            if entry.name == "sweep":
                scheduler.apply_entry(entry)
    work(app)
    ticks = [span for span in captured.spans if span["name"] == "schedule sweep"]
    assert len({span["trace_id"] for span in [*ticks, captured.span("main")]}) == 3
    assert {span["trace_id"] for span in runs(captured, "shop.sweep")} == {span["trace_id"] for span in ticks}
    said = [line for line in captured.logs if "Sending due task" in line["message"]]
    assert [line["span_id"] for line in said] == [span["span_id"] for span in ticks]


def test_headers_of_the_program_stay_and_old_ones_of_ours_go(captured: Captured, app: celery.Celery) -> None:
    """A worker without the library finds the message as Celery made it, with the gateway's id beside."""

    @app.task(shared=False, name="shop.charge")
    def charge() -> None: ...

    with tracing.extracted({"X-Trace-ID": "ab" * 16}), tracing.span("request"):
        charge.apply_async(headers={"tenant": "acme", "traceparent": "old", "x-trace-id": "old"})
    [message] = messages(app)
    assert message.headers["tenant"] == "acme" and message.headers["task"] == "shop.charge"
    assert message.headers["X-Trace-ID"] == "ab" * 16 and "x-trace-id" not in message.headers
    assert message.headers["traceparent"].split("-")[1] == "ab" * 16


def test_the_older_protocol_has_headers_in_a_place_of_their_own(
    captured: Captured, app: celery.Celery
) -> None:
    """Celery's first protocol, which workers still read, says nothing of the task in headers."""

    @app.task(shared=False, name="shop.charge")
    def charge() -> None: ...

    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    request = {"id": "1", "delivery_info": {"exchange": "", "routing_key": "old"}, "headers": headers}
    celery.app.trace.build_tracer("shop.charge", charge, app=app)("1", (), {}, request)
    [ran] = runs(captured, "shop.charge")
    assert ran["trace_id"] == "a" * 32 and ran["parent_span_id"] == "b" * 16
    assert ran["attributes"]["messaging.destination.name"] == "old"


def test_a_task_is_traced_once_though_kombu_carries_it(captured: Captured, app: celery.Celery) -> None:
    """Events and remote control of Celery are nobody's messages."""

    @app.task(shared=False, name="shop.charge")
    def charge() -> None: ...

    with tracing.span("request"):
        charge.apply_async()
        app.control.broadcast("enable_events")
        with app.events.default_dispatcher() as dispatcher:
            dispatcher.send("task-custom")
    kinds = [span["span_kind"] for span in captured.spans]
    assert kinds == ["PRODUCER", "INTERNAL"]


def test_lines_of_the_main_process_about_a_run(captured: Captured, app: celery.Celery) -> None:
    """That a child was killed, or took too long, is said where the trace can be found."""

    @app.task(shared=False, name="shop.charge")
    def charge() -> None: ...

    with tracing.span("request"):
        here = tracing.current_trace_id()
        charge.apply_async()
    [message] = messages(app)
    worker_request.Request(message, app=app, task=app.tasks["shop.charge"]).on_timeout(True, 7)
    [line] = [line for line in captured.logs if "Soft time limit (7s)" in line["message"]]
    assert line["trace_id"] == here and tracing.current_trace_id() is None


def test_removal_puts_celery_back(captured: Captured, app: celery.Celery) -> None:
    """A tracer that was built meanwhile runs its task, untraced."""

    @app.task(shared=False, name="shop.charge")
    def charge() -> None: ...

    built = celery.app.trace.build_tracer("shop.charge", charge, app=app)
    tracing.uninstrument()
    assert not hasattr(celery.Celery.send_task, "__wrapped__")
    assert not hasattr(celery.app.trace.build_tracer, "__wrapped__")
    assert not hasattr(celery.beat.Scheduler.apply_entry, "__wrapped__")
    built("1", (), {}, {"id": "1", "delivery_info": {}})
    assert runs(captured, "shop.charge") == []
