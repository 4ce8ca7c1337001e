"""Kafka by confluent-kafka, aiokafka and kafka-python: headers out, and the body of the consumer's loop in.

A consumer's loop works on what it got last until it polls again; several records from one poll are a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from importlib import import_module
from typing import Any, Final

from tracing.handoff import Handoff, Patch
from tracing.instrumentation.messaging import (
    finished,
    fuse,
    is_wanted,
    known_to_wait_for,
    received,
    sending,
)
from tracing.propagation import messages

SYSTEM: Final = "kafka"


def _told(headers: Any) -> Any:
    try:
        return messages.told_pairs(headers)
    except Exception as error:
        fuse.failed(error)
        return headers


def _took(records: Iterable[Any], source: Any) -> None:
    """Tell of records as the two Python clients have them."""
    found = list(records)
    if found:
        received(SYSTEM, found[0].topic, [record.headers for record in found], source)


# ---------------------------------------------------------------- kafka-python


def kafka_python_patches() -> list[Handoff]:
    """Iteration and polling; the iterator polls inside, by a generator of its own."""
    consumer = import_module("kafka").KafkaConsumer
    return [
        Patch(import_module("kafka").KafkaProducer, "send", _send),
        Patch(consumer, "poll", _poll),
        Patch(consumer, "__next__", _next),
    ]


def _send(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def send(
        self: Any, topic: str, value: Any = None, key: Any = None, headers: Any = None, *args: Any, **kw: Any
    ) -> Any:
        if not is_wanted():
            return original(self, topic, value, key, headers, *args, **kw)
        with sending(SYSTEM, topic):
            return original(self, topic, value, key, _told(headers), *args, **kw)

    return send


def _poll(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def poll(self: Any, *args: Any, **kwargs: Any) -> Any:
        finished(self)
        found = original(self, *args, **kwargs)
        if not self.__dict__.get(_ITERATING):
            _took((record for records in found.values() for record in records), self)
        return found

    return poll


_ITERATING: Final = "_backtrail_iterating"  # in a consumer's __dict__, while it polls for its own iterator


def _next(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def next_(self: Any) -> Any:
        finished(self)
        self.__dict__[_ITERATING] = True
        try:
            record = original(self)
        finally:
            del self.__dict__[_ITERATING]
        _took([record], self)
        return record

    return next_


# ---------------------------------------------------------------- aiokafka


def aiokafka_patches() -> list[Handoff]:
    """`getone` is what iteration calls."""
    consumer = import_module("aiokafka").AIOKafkaConsumer
    return [
        Patch(import_module("aiokafka").AIOKafkaProducer, "send", _send_async),
        Patch(consumer, "getone", _getone),
        Patch(consumer, "getmany", _getmany),
    ]


def _send_async(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def send(
        self: Any,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: Any = None,
        timestamp_ms: Any = None,
        headers: Any = None,
    ) -> Any:
        if not is_wanted():
            return await original(self, topic, value, key, partition, timestamp_ms, headers)
        with sending(SYSTEM, topic):
            return await original(self, topic, value, key, partition, timestamp_ms, _told(headers))

    return send


def _getone(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def getone(self: Any, *partitions: Any) -> Any:
        finished(self)
        record = await original(self, *partitions)
        _took([record], self)
        return record

    known_to_wait_for(getone)
    return getone


def _getmany(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def getmany(self: Any, *args: Any, **kwargs: Any) -> Any:
        finished(self)
        found = await original(self, *args, **kwargs)
        _took((record for records in found.values() for record in records), self)
        return found

    known_to_wait_for(getmany)
    return getmany


# ---------------------------------------------------------------- confluent-kafka


def confluent_kafka_patches() -> list[Handoff]:
    """Its classes are written in C: subclasses take their places, for programs that look them up later."""
    confluent: Any = import_module("confluent_kafka")
    return [
        Patch(confluent, "Producer", _producer),
        Patch(confluent, "Consumer", _consumer),
        Patch(confluent.SerializingProducer, "produce", _produce),
        Patch(confluent.DeserializingConsumer, "poll", _poll_one),
    ]


def _producer(original: Any) -> Any:
    class Producer(original):  # type: ignore[misc]  # a class that is known at run time
        __doc__ = original.__doc__

    Producer.produce = _produce(original.produce)
    return _named_as(Producer, original)


def _consumer(original: Any) -> Any:
    class Consumer(original):  # type: ignore[misc]  # a class that is known at run time
        __doc__ = original.__doc__

    Consumer.poll = _poll_one(original.poll)
    Consumer.consume = _consume(original.consume)
    Consumer.close = _close(original.close)
    return _named_as(Consumer, original)


def _named_as(ours: Any, original: Any) -> Any:
    ours.__module__, ours.__qualname__ = original.__module__, original.__qualname__
    return ours


def _produce(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def produce(self: Any, topic: str, *args: Any, **kwargs: Any) -> Any:
        # Headers given by their place, the eighth, stay as they are: nobody counts that far.
        if not is_wanted() or len(args) > _HEADERS_INDEX:
            return original(self, topic, *args, **kwargs)
        with sending(SYSTEM, topic):
            return original(self, topic, *args, **{**kwargs, "headers": _told(kwargs.get("headers"))})

    return produce


_HEADERS_INDEX: Final = 6  # after the topic: value, key, partition, callback, on_delivery, timestamp, headers


def _poll_one(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def poll(self: Any, *args: Any, **kwargs: Any) -> Any:
        finished(self)
        message = original(self, *args, **kwargs)
        _got(self, [message] if message is not None else [])
        return message

    return poll


def _consume(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def consume(self: Any, *args: Any, **kwargs: Any) -> Any:
        finished(self)
        found = original(self, *args, **kwargs)
        _got(self, found)
        return found

    return consume


def _close(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        finished(self)
        return original(self, *args, **kwargs)

    return close


def _got(consumer: Any, found: list[Any]) -> None:
    records = [message for message in found if message.error() is None]
    if records:
        received(SYSTEM, records[0].topic(), [message.headers() for message in records], consumer)
