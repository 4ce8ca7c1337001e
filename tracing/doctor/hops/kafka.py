"""Kafka: confluent-kafka, aiokafka, kafka-python."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any

from tracing.doctor.brokers import MESSAGES, place, url
from tracing.doctor.hop import DEADLINE_S, AsyncErrand, Consumer, Errand, Hop, Wait, Way, Work, workers

POLL_S = 0.2
KNOWN_POLL_S = 0.05

Errands = dict[str, Errand]


# Topics are made and taken away by the client that is tried, which may be the only one installed. They are
# made, and known to the broker, before a consumer asks for them: it would look again only minutes later.


@contextmanager
def _confluent_topic(name: str) -> Iterator[None]:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient({"bootstrap.servers": url()})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(DEADLINE_S)
    try:
        yield
    finally:
        admin.delete_topics([name])[name].result(DEADLINE_S)


@contextmanager
def _python_topic(name: str) -> Iterator[None]:
    from kafka.admin import KafkaAdminClient, NewTopic

    admin = KafkaAdminClient(bootstrap_servers=url())
    admin.create_topics([NewTopic(name, 1, 1)])
    deadline_s = time.monotonic() + DEADLINE_S
    while not _is_known(admin.describe_topics([name])) and time.monotonic() < deadline_s:
        time.sleep(KNOWN_POLL_S)
    try:
        yield
    finally:
        admin.delete_topics([name])
        admin.close()


@asynccontextmanager
async def _aio_topic(name: str) -> AsyncIterator[None]:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=url())
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1)])
    deadline_s = time.monotonic() + DEADLINE_S
    while not _is_known(await admin.describe_topics([name])) and time.monotonic() < deadline_s:
        await asyncio.sleep(KNOWN_POLL_S)
    try:
        yield
    finally:
        await admin.delete_topics([name])
        await admin.close()


def _is_known(topics: list[dict[str, Any]]) -> bool:
    """Whether the broker's description of a topic has a partition with a leader."""
    return any(not part["error_code"] for topic in topics for part in topic["partitions"])


def _threaded(
    name: str,
    made: Callable[[str], AbstractContextManager[None]],
    producer: Callable[[str], Callable[[bytes], None]],
    consume: Callable[..., None],
) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        topic = place(name)
        errands: Errands = {}
        ended = threading.Event()
        send = producer(topic)

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = Errand(work, tag)
            send(tag.encode())
            return errand.wait

        with made(topic), workers(1, lambda: consume(topic, errands, ended), ended.set):
            yield Way(go)

    return opened


def _confluent_producer(topic: str) -> Callable[[bytes], None]:
    import confluent_kafka

    producer = confluent_kafka.Producer({"bootstrap.servers": url(), "linger.ms": 1})

    def send(body: bytes) -> None:
        producer.produce(topic, body)
        producer.poll(0)

    return send


def _confluent_consumer(topic: str) -> Any:
    import confluent_kafka

    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": url(), "group.id": topic, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    return consumer


def _confluent_poll(topic: str, errands: Errands, ended: threading.Event) -> None:
    consumer = _confluent_consumer(topic)
    while not ended.is_set():
        message = consumer.poll(POLL_S)
        if message is not None and message.error() is None:
            errands[message.value().decode()].do()
    consumer.close()


def _confluent_consume(topic: str, errands: Errands, ended: threading.Event) -> None:
    consumer = _confluent_consumer(topic)
    while not ended.is_set():
        for message in consumer.consume(1, POLL_S):
            if message.error() is None:
                errands[message.value().decode()].do()
    consumer.close()


def _python_producer(topic: str) -> Callable[[bytes], None]:
    import kafka

    producer = kafka.KafkaProducer(bootstrap_servers=url())

    def send(body: bytes) -> None:
        producer.send(topic, body)

    return send


def _python_consumer(topic: str, **options: Any) -> Any:
    import kafka

    return kafka.KafkaConsumer(
        topic,
        bootstrap_servers=url(),
        group_id=topic,
        auto_offset_reset="earliest",
        **options,
    )


def _python_iterate(topic: str, errands: Errands, ended: threading.Event) -> None:
    consumer = _python_consumer(topic, consumer_timeout_ms=200)
    while not ended.is_set():
        for record in consumer:
            errands[record.value.decode()].do()
    consumer.close()


def _python_poll(topic: str, errands: Errands, ended: threading.Event) -> None:
    consumer = _python_consumer(topic)
    while not ended.is_set():
        for records in consumer.poll(200, max_records=1).values():
            for record in records:
                errands[record.value.decode()].do()
    consumer.close()


def _aio(name: str, consume: Callable[[Any, dict[str, AsyncErrand]], Any]) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        import aiokafka

        topic, server = place(name), url()
        errands: dict[str, AsyncErrand] = {}
        senders: set[asyncio.Task[Any]] = set()
        async with (
            _aio_topic(topic),
            aiokafka.AIOKafkaProducer(bootstrap_servers=server) as producer,
            aiokafka.AIOKafkaConsumer(
                topic, bootstrap_servers=server, group_id=topic, auto_offset_reset="earliest"
            ) as consumer,
        ):
            worker = Consumer(lambda: consume(consumer, errands))

            def send(errand: AsyncErrand) -> None:
                errands[errand.tag] = errand
                sender = asyncio.ensure_future(producer.send(topic, errand.tag.encode()))
                senders.add(sender)
                sender.add_done_callback(senders.discard)

            def go(work: Work, tag: str) -> Wait:
                errand = AsyncErrand(work, tag)
                send(errand)
                return errand.wait

            def cancel(tag: str) -> Wait:
                errand = AsyncErrand(None, tag)
                send(errand)
                return worker.cancelled_in(errand)

            yield Way(go, cancel)
            await worker.end()

    return opened


async def _aio_iterate(consumer: Any, errands: dict[str, AsyncErrand]) -> None:
    async for record in consumer:
        await errands[record.value.decode()].perform()


async def _aio_getmany(consumer: Any, errands: dict[str, AsyncErrand]) -> None:
    while True:
        for records in (await consumer.getmany(timeout_ms=200, max_records=1)).values():
            for record in records:
                await errands[record.value.decode()].perform()


def _confluent_hop(name: str, consume: Callable[..., None]) -> Hop:
    opened = _threaded(f"confluent-{name}", _confluent_topic, _confluent_producer, consume)
    title, needs, by = f"Kafka, confluent-kafka {name}", ("confluent_kafka",), ("confluent-kafka",)
    return Hop(title, opened, contexts=MESSAGES, needs=needs, by=by)


def _python_hop(name: str, consume: Callable[..., None]) -> Hop:
    opened = _threaded(f"python-{name}", _python_topic, _python_producer, consume)
    title, needs, by = f"Kafka, kafka-python {name}", ("kafka",), ("kafka-python",)
    return Hop(title, opened, contexts=MESSAGES, needs=needs, by=by)


def _aio_hop(name: str, consume: Callable[..., Any]) -> Hop:
    opened = _aio(f"aio-{name}", consume)
    title, needs, by = f"Kafka, aiokafka {name}", ("aiokafka",), ("aiokafka",)
    return Hop(title, opened, asyncio.run, contexts=MESSAGES, needs=needs, by=by)


HOPS = [
    _confluent_hop("poll", _confluent_poll),
    _confluent_hop("consume", _confluent_consume),
    _python_hop("iterator", _python_iterate),
    _python_hop("poll", _python_poll),
    _aio_hop("iterator", _aio_iterate),
    _aio_hop("getmany", _aio_getmany),
]
