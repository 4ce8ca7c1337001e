"""Celery: a span where a task is sent, one for each run, and the worker's own lines about it.

A run is traced around the whole of what Celery does with a task, so that handlers of its signals,
`on_failure`, callbacks, chains and retries belong to it as well: a retried run is below the one that failed.
Headers travel among the message's own; a worker without this library ignores them.

Source: OpenTelemetry semantic conventions 1.37, "Messaging spans"; `celery.*` as in OpenTelemetry's
instrumentation of Celery.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from importlib import import_module
from typing import Any, Final

from opentelemetry.context.context import Context
from opentelemetry.trace import SpanKind

from tracing.handoff import Handoff, Patch
from tracing.handoff.patch import Patches
from tracing.instrumentation.messaging import (
    SCOPE,
    carried,
    fuse,
    is_wanted,
    processing,
    sending,
    span_carried,
)
from tracing.propagation import extracted, messages
from tracing.spans import get_tracer
from tracing.spans.scopes import SpanScope, fail

SYSTEM: Final = "celery"
TASK_NAME: Final = "celery.task_name"
STATE: Final = "celery.state"  # of a run that did not just succeed: RETRY, FAILURE, REJECTED, IGNORED
RETRIES: Final = "celery.retries"  # how many runs of the task there were before this one
RETRY_REASON: Final = "celery.retry.reason"

_CONSUMER: Final = "celery.worker.consumer.consumer"  # has its own name for `build_tracer`
_NOTHING: Final[Mapping[str, Any]] = {}


class _Receiver:
    """A function that receives one of Celery's signals, as a `Handoff`."""

    def __init__(self, signal: Any, function: Callable[..., None]) -> None:
        self._signal = signal
        self._function = function
        self.on = False

    def install(self) -> None:
        """Connect it; a second call changes nothing."""
        self.on = True
        self._signal.connect(self._function, weak=False)

    def remove(self) -> None:
        """Disconnect it."""
        self.on = False
        self._signal.disconnect(self._function)


# ---------------------------------------------------------------- sending


def sending_patches() -> Sequence[Handoff]:
    """Everything that orders a task goes through one method; what becomes the message is told by a signal."""
    app = import_module("celery.app.base").Celery
    signals = import_module("celery.signals")
    return [Patch(app, "send_task", _send_task), _Receiver(signals.before_task_publish, _before_publish)]


def _send_task(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def send_task(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return original(self, name, *args, **kwargs)
        with sending(SYSTEM, "", name, {TASK_NAME: name}) as span, carried(span):
            return original(self, name, *args, **kwargs)

    return send_task


def _before_publish(headers: Any = None, exchange: Any = None, routing_key: Any = None, **_: Any) -> None:
    """Put the trace into a message, in place of one that is named there already."""
    try:
        if not isinstance(headers, dict):
            return
        span = span_carried()
        if span is not None:
            span.set_attribute("messaging.destination.name", _destination(exchange, routing_key))
            span.set_attribute("messaging.message.id", str(headers.get("id")))
        told = messages.told_mapping(headers)
        headers.clear()
        headers.update(told)
    except Exception as error:
        fuse.failed(error)


def _destination(exchange: Any, routing_key: Any) -> str:
    """The queue, or the exchange where that decides, as the producer and the worker both know it."""
    return str(routing_key or exchange or "")


# ---------------------------------------------------------------- running


def running_patches() -> Sequence[Handoff]:
    """Whatever runs a task, in any pool or in the caller, has it run by what `build_tracer` made."""
    group = Patches()
    modules = [import_module("celery.app.trace"), sys.modules.get(_CONSUMER)]
    group.add(*(Patch(module, "build_tracer", partial(_build_tracer, group)) for module in modules if module))
    return [group]


def _build_tracer(group: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def build_tracer(name: str, task: Any, *args: Any, **kwargs: Any) -> Any:
        run = original(name, task, *args, **kwargs)

        @wraps(run)
        def trace_task(uuid: str, args: Any, kwargs: Any, request: Any = None) -> Any:
            if not group.on or not is_wanted():
                return run(uuid, args, kwargs, request)
            with _running(name, uuid, request or _NOTHING) as span:
                outcome = run(uuid, args, kwargs, request)
                if span is not None and outcome.info is not None:
                    _judge(span, task, outcome.info)
                return outcome

        return trace_task

    return build_tracer


def _running(name: str, uuid: str, request: Mapping[str, Any]) -> Any:
    """The span of a run: of a message's, or, in the caller's process, below what is current there."""
    delivery = request.get("delivery_info") or _NOTHING
    destination = _destination(delivery.get("exchange"), delivery.get("routing_key"))
    about = {TASK_NAME: name, "messaging.message.id": uuid}
    if request.get("retries"):
        about[RETRIES] = request["retries"]
    if request.get("is_eager"):
        return SpanScope(get_tracer(SCOPE), f"process {name}", None, SpanKind.INTERNAL, about)
    return processing(SYSTEM, destination, _headers(request), name, about)


def _headers(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a message; the older of Celery's two protocols has them apart from what it says of the task."""
    return request if "traceparent" in request else request.get("headers") or request


def _judge(span: Any, task: Any, outcome: Any) -> None:
    """Note on a span how a run ended that did not just succeed; Celery has caught what the task raised."""
    try:
        span.set_attribute(STATE, outcome.state)
        error = outcome.retval
        if outcome.state == "RETRY":
            span.set_attribute(RETRY_REASON, str(error))
            error = error.exc  # what the task was about to fail with, if anything
        if outcome.state in ("RETRY", "FAILURE") and isinstance(error, BaseException):
            expected = isinstance(error, tuple(task.throws or ()))
            fail(span, error, record=True, set_status=not expected)
    except Exception as failure:
        fuse.failed(failure)


# ---------------------------------------------------------------- the worker's own lines


def strategy_patches() -> Sequence[Handoff]:
    """What the worker's main process says of a message that it got: received, revoked, expired."""
    group = Patches()
    group.add(Patch(import_module("celery.worker.strategy"), "default", partial(_strategy, group)))
    return [group]


def _strategy(group: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def default(*args: Any, **kwargs: Any) -> Any:
        handle = original(*args, **kwargs)

        @wraps(handle)
        def task_message_handler(message: Any, *args: Any, **kwargs: Any) -> Any:
            if not group.on or not is_wanted() or not message.headers:
                return handle(message, *args, **kwargs)
            with extracted(message.headers):
                return handle(message, *args, **kwargs)

        return task_message_handler

    return default


def request_patches() -> Sequence[Handoff]:
    """What the main process says of a run that it ended, or that ended without an answer."""
    request = import_module("celery.worker.request").Request
    return [Patch(request, "on_timeout", _about_request), Patch(request, "on_failure", _about_request)]


def _about_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return original(self, *args, **kwargs)
        with extracted(_headers(self.request_dict)):
            return original(self, *args, **kwargs)

    return method


def beat_patches() -> Sequence[Handoff]:
    """Each tick of a schedule begins a trace of its own, whatever the scheduler was started in."""
    return [Patch(import_module("celery.beat").Scheduler, "apply_entry", _apply_entry)]


def _apply_entry(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def apply_entry(self: Any, entry: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return original(self, entry, *args, **kwargs)
        with SpanScope(get_tracer(SCOPE), f"schedule {entry.name}", Context()):
            return original(self, entry, *args, **kwargs)

    return apply_entry
