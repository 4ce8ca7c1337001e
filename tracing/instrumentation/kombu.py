"""kombu: publishing, consumers with callbacks, its simple queues, and loops over messages.

What Celery sends through it (tasks, events, remote control, results) is Celery's: tasks are traced there, the
rest belongs to no request.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from importlib import import_module
from typing import Any, Final

from tracing.handoff import Handoff, Patch
from tracing.instrumentation.messaging import finished, fuse, is_wanted, looped, processing, received, sending
from tracing.propagation import messages

_SYSTEMS: Final = {"amqp": "rabbitmq"}  # of kombu's transports those that OpenTelemetry names otherwise
_UNKNOWN: Final = "kombu"
_HEADERS_INDEX: Final = 9  # where `publish` takes headers by their place, after the body
_LIBRARIES: Final = ("celery.", "kombu.")


def messaging_patches() -> Sequence[Handoff]:
    """Producers and consumers, which everything else is built on."""
    module = import_module("kombu.messaging")
    return [
        Patch(module.Producer, "publish", _publish),
        Patch(module.Consumer, "_receive_callback", _receive_callback),
    ]


def simple_patches() -> Sequence[Handoff]:
    """`SimpleQueue` and `SimpleBuffer`: the loop that asks them works on what it got last."""
    return [Patch(import_module("kombu.simple").SimpleBase, "get", _simple_get)]


def entity_patches() -> Sequence[Handoff]:
    """A queue that is asked for one message."""
    return [Patch(import_module("kombu.entity").Queue, "get", _queue_get)]


def common_patches() -> Sequence[Handoff]:
    """The generator of messages."""
    return [Patch(import_module("kombu.common"), "drain_consumer", _drain_consumer)]


# ---------------------------------------------------------------- sending


def _publish(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def publish(self: Any, body: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted() or len(args) >= _HEADERS_INDEX or _is_called_by(*_INTERNAL):
            return original(self, body, *args, **kwargs)
        routing_key = kwargs.get("routing_key", args[0] if args else None)
        with sending(_system_of(self), _place(self, kwargs.get("exchange"), routing_key)):
            return original(self, body, *args, **{**kwargs, "headers": _told(kwargs.get("headers"))})

    return publish


_INTERNAL: Final = ("celery.", "kombu.pidbox")  # whose messages belong to no request


def _is_called_by(*modules: str) -> bool:
    """Whether the function that asks was called by code of one of these modules."""
    return str(sys._getframe(2).f_globals.get("__name__")).startswith(modules)


def _told(headers: Any) -> Any:
    try:
        return messages.told_mapping(headers)
    except Exception as error:
        fuse.failed(error)
        return headers


def _place(producer: Any, exchange: Any, routing_key: Any) -> str:
    """Where a message goes, as its producer and its consumer both know it."""
    exchange = exchange if exchange is not None else producer.exchange
    name = getattr(exchange, "name", exchange) or ""
    return _destination(str(name), str(routing_key or producer.routing_key or ""))


def _destination(exchange: str, routing_key: str) -> str:
    return routing_key if not exchange else f"{exchange}:{routing_key}" if routing_key else exchange


def _system_of(producer: Any) -> str:
    """The kind of broker; asks nothing that would connect, which `publish` does in its own, patient way."""
    connection = getattr(producer, "__connection__", None)
    if connection is None:
        channel = getattr(producer, "_channel", None)
        connection = getattr(getattr(channel, "connection", None), "client", None)
    return _system(connection)


def _system(connection: Any) -> str:
    kind = getattr(getattr(connection, "transport", None), "driver_type", None) or _UNKNOWN
    return _SYSTEMS.get(kind, str(kind))


# ---------------------------------------------------------------- receiving


def _receive_callback(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def receive(self: Any, message: Any) -> Any:
        if not is_wanted() or _is_internal(self):
            return original(self, message)
        with processing(_system(self.connection), _came_from(message), _raw_headers(message)):
            return original(self, message)

    return receive


def _is_internal(consumer: Any) -> bool:
    """Whether what gets the messages is Celery's, or kombu's own, such as the buffer of a simple queue."""
    callbacks = [consumer.on_message] if consumer.on_message else consumer.callbacks or ()
    return all(str(getattr(one, "__module__", "")).startswith(_LIBRARIES) for one in callbacks)


def _raw_headers(message: Any) -> Any:
    """Headers of a message as its transport has it, before kombu makes one of its own of it."""
    if isinstance(message, dict):
        return message.get("headers")
    properties = getattr(message, "properties", None) or {}
    return getattr(message, "headers", None) or properties.get("application_headers")


def _came_from(message: Any) -> str:
    if isinstance(message, dict):
        info = (message.get("properties") or {}).get("delivery_info") or {}
    else:
        info = getattr(message, "delivery_info", None) or {}
    return _destination(str(info.get("exchange") or ""), str(info.get("routing_key") or ""))


def _simple_get(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def get(self: Any, block: bool = True, timeout: float | None = None) -> Any:
        finished(self.queue)
        message = original(self, block, timeout)
        if block:  # else it was asked of the queue, which has told of it
            _tell(self.queue, message)
        return message

    return get


def _queue_get(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def get(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_called_by("celery."):
            return original(self, *args, **kwargs)
        finished(self)
        message = original(self, *args, **kwargs)
        if message is not None:
            _tell(self, message)
        return message

    return get


def _drain_consumer(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def drain_consumer(consumer: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        found = original(consumer, *args, **kwargs)
        return looped(found, consumer, lambda item: _tell(consumer, item[1]))

    return drain_consumer


def _tell(source: Any, message: Any) -> None:
    try:
        connection = getattr(message.channel, "connection", None)
        received(_system(getattr(connection, "client", None)), _came_from(message), [message.headers], source)
    except Exception as error:
        fuse.failed(error)
