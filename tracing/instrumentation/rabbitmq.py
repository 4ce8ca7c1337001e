"""RabbitMQ by pika and by aio-pika: callbacks, generators, iterators and single gets."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from functools import partial, wraps
from importlib import import_module
from typing import Any, Final

from tracing.handoff import Handoff, Patch
from tracing.instrumentation.messaging import (
    finished,
    fuse,
    is_wanted,
    looped,
    processing,
    received,
    sending,
    span_carried,
)
from tracing.propagation import messages

SYSTEM: Final = "rabbitmq"


def _destination(exchange: str, routing_key: str) -> str:
    """Where a message goes, as its producer and its consumer both know it."""
    return routing_key if not exchange else f"{exchange}:{routing_key}" if routing_key else exchange


# ---------------------------------------------------------------- pika


def pika_patches() -> list[Handoff]:
    """Every adapter publishes through one class; consuming differs."""
    blocking = import_module("pika.adapters.blocking_connection").BlockingChannel
    return [
        Patch(import_module("pika.channel").Channel, "basic_publish", _basic_publish),
        Patch(import_module("pika.channel").Channel, "basic_consume", partial(_basic_consume, blocking)),
        Patch(blocking, "basic_consume", partial(_basic_consume, None)),
        Patch(blocking, "basic_get", _basic_get),
        Patch(blocking, "consume", _consume),
    ]


def _basic_publish(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def basic_publish(
        self: Any, exchange: str, routing_key: str, body: Any, properties: Any = None, mandatory: bool = False
    ) -> Any:
        if not is_wanted():
            return original(self, exchange, routing_key, body, properties, mandatory)
        with sending(SYSTEM, _destination(exchange, routing_key)):
            try:
                told = copy.copy(properties) if properties is not None else _properties()
                told.headers = messages.told_mapping(told.headers)
                properties = told
            except Exception as error:
                fuse.failed(error)
            return original(self, exchange, routing_key, body, properties, mandatory)

    return basic_publish


def _properties() -> Any:
    return import_module("pika.spec").BasicProperties()


def _basic_consume(passed_by: type | None, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def basic_consume(
        self: Any, queue: str, on_message_callback: Callable[..., Any], *args: Any, **kw: Any
    ) -> Any:
        # The blocking channel gives the other one a method of its own, and calls the program's later.
        by_blocking = passed_by is not None and isinstance(
            getattr(on_message_callback, "__self__", None), passed_by
        )
        if callable(on_message_callback) and not by_blocking:
            on_message_callback = _callback(queue, on_message_callback)
        return original(self, queue, on_message_callback, *args, **kw)

    return basic_consume


def _callback(queue: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def callback(channel: Any, method: Any, properties: Any, body: Any) -> Any:
        with processing(SYSTEM, queue, properties.headers):
            return function(channel, method, properties, body)

    return callback


def _basic_get(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def basic_get(self: Any, queue: str, *args: Any, **kwargs: Any) -> Any:
        finished(self)
        found = original(self, queue, *args, **kwargs)
        _tell(self, queue, found)
        return found

    return basic_get


def _consume(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def consume(self: Any, queue: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
        if span_carried() is not None:  # whoever consumes traces it
            untraced: Iterator[Any] = original(self, queue, *args, **kwargs)
            return untraced
        return looped(original(self, queue, *args, **kwargs), self, partial(_tell, self, queue))

    return consume


def _tell(channel: Any, queue: str, found: tuple[Any, Any, Any]) -> None:
    method, properties, _ = found
    if method is not None:  # else nothing came in time
        received(SYSTEM, queue, [properties.headers], channel)


# ---------------------------------------------------------------- aio-pika


def aio_pika_patches() -> list[Handoff]:
    """Exchanges publish; queues are consumed by callback, by iterator, or asked for one message."""
    queues = import_module("aio_pika.queue")
    return [
        Patch(import_module("aio_pika.exchange").Exchange, "publish", _publish),
        Patch(queues.Queue, "consume", partial(_consume_async, queues.QueueIterator)),
        Patch(queues.Queue, "get", _get_async),
        Patch(queues.QueueIterator, "__anext__", _anext),
    ]


def _publish(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def publish(self: Any, message: Any, routing_key: str, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return await original(self, message, routing_key, *args, **kwargs)
        with sending(SYSTEM, _destination(self.name, routing_key)):
            try:
                message.headers.update(messages.texts())
            except Exception as error:
                fuse.failed(error)
            return await original(self, message, routing_key, *args, **kwargs)

    return publish


def _consume_async(iterators: type, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def consume(self: Any, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not isinstance(getattr(callback, "__self__", None), iterators):
            callback = _callback_async(self.name, callback)
        return await original(self, callback, *args, **kwargs)

    return consume


def _callback_async(queue: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def callback(message: Any) -> Any:
        with processing(SYSTEM, queue, message.headers):
            result = function(message)
            return await result if inspect.isawaitable(result) else result

    return callback


def _get_async(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def get(self: Any, *args: Any, **kwargs: Any) -> Any:
        finished(self)
        message = await original(self, *args, **kwargs)
        if message is not None:
            received(SYSTEM, self.name, [message.headers], self)
        return message

    return get


def _anext(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def anext_(self: Any) -> Any:
        finished(self)
        message = await original(self)
        received(SYSTEM, self._amqp_queue.name, [message.headers], self)
        return message

    return anext_
