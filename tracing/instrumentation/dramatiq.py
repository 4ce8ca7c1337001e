"""dramatiq: the trace is in a message's options, through delays, pipelines and retries, on its own brokers.

A message that is tried again is below the attempt that failed. A worker without this library does not look at
options that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from typing import Any, Final

from opentelemetry.trace import Span

from tracing.handoff import Handoff, Patch
from tracing.instrumentation.messaging import carried, fuse, is_wanted, processing, sending, untraced
from tracing.propagation import messages
from tracing.spans.scopes import fail

SYSTEM: Final = "dramatiq"
OPTION: Final = "backtrail"
TASK_NAME: Final = "dramatiq.actor"
RETRIES: Final = "dramatiq.retries"  # how many attempts there were before this one

# The message that is processed here, its span, and the broker that knows its actor.
_processed: Final[ContextVar[tuple[Any, Span, Any] | None]] = ContextVar("tracing.dramatiq", default=None)


def redis_patches() -> Sequence[Handoff]:
    """The broker on Redis."""
    return [Patch(import_module("dramatiq.brokers.redis").RedisBroker, "enqueue", _enqueue)]


def rabbitmq_patches() -> Sequence[Handoff]:
    """The broker on RabbitMQ, by pika, which is not to trace the same messages once more."""
    module = import_module("dramatiq.brokers.rabbitmq")
    return [
        Patch(module.RabbitmqBroker, "enqueue", _enqueue),
        Patch(module._RabbitmqConsumer, "__init__", untraced),
    ]


def stub_patches() -> Sequence[Handoff]:
    """The broker that programs test with."""
    return [Patch(import_module("dramatiq.brokers.stub").StubBroker, "enqueue", _enqueue)]


def worker_patches() -> Sequence[Handoff]:
    """The worker's threads, and where it notes what an actor raised.

    A message whose delay is over is put into its queue by the worker, which is nobody's request: it keeps the
    trace that it has.
    """
    module = import_module("dramatiq.worker")
    return [
        Patch(module.ConsumerThread, "handle_delayed_messages", untraced),
        Patch(module.WorkerThread, "process_message", _process_message),
        Patch(import_module("dramatiq.broker").MessageProxy, "stuff_exception", _stuff_exception),
    ]


# ---------------------------------------------------------------- enqueuing


def _about(message: Any) -> dict[str, Any]:
    about = {TASK_NAME: message.actor_name, "messaging.message.id": message.message_id}
    if message.options.get("retries"):
        about[RETRIES] = message.options["retries"]
    return about


def _enqueue(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue(self: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return original(self, message, *args, **kwargs)
        with sending(SYSTEM, message.queue_name, message.actor_name, _about(message)) as span, carried(span):
            try:
                message = message.copy(options={OPTION: messages.texts()})
            except Exception as error:
                fuse.failed(error)
            return original(self, message, *args, **kwargs)

    return enqueue


# ---------------------------------------------------------------- processing


def _process_message(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def process_message(self: Any, message: Any) -> Any:
        if not is_wanted():
            return original(self, message)
        headers = message.options.get(OPTION)
        place = (SYSTEM, message.queue_name, headers if isinstance(headers, dict) else None)
        with processing(*place, message.actor_name, _about(message)) as span:
            token = _processed.set((message, span, self.broker) if span is not None else None)
            try:
                return original(self, message)
            finally:
                _processed.reset(token)

    return process_message


def _stuff_exception(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def stuff_exception(self: Any, exception: BaseException) -> Any:
        processed = _processed.get()
        if processed is not None and processed[0] is self:
            _judge(*processed, exception)
        return original(self, exception)

    return stuff_exception


def _judge(message: Any, span: Span, broker: Any, error: BaseException) -> None:
    """Note what an actor raised; what is an answer, or was expected, is no failure."""
    try:
        errors = import_module("dramatiq.errors")
        actor = broker.actors.get(message.actor_name)
        expected = message.options.get("throws") or (actor and actor.options.get("throws")) or ()
        skip = import_module("dramatiq.middleware").SkipMessage
        answers = (errors.Retry, errors.RateLimitExceeded, skip)
        is_failure = not isinstance(error, answers) and not isinstance(error, expected)
        fail(span, error, record=True, set_status=is_failure)
    except Exception as failure:
        fuse.failed(failure)
