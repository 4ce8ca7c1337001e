"""Kafka: confluent-kafka, aiokafka, kafka-python."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
import confluent_kafka
import confluent_kafka.admin
import kafka
from context_hop import DEADLINE_S, AsyncErrand, Errand, Hop, Wait, Way, Work, workers

BROKER = "kafka"
MESSAGES = 300
POLL_S = 0.2

Errands = dict[str, Errand]


def _topic(name: str) -> None:
    """Make a topic, so that no consumer waits for its first message to do that."""
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": os.environ["BROKER_URL"]})
    made = admin.create_topics([confluent_kafka.admin.NewTopic(name, 1, 1)])
    made[name].result(DEADLINE_S)


def _threaded(
    topic: str, producer: Callable[[str], Callable[[bytes], None]], consume: Callable[..., None]
) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        _topic(topic)
        errands: Errands = {}
        ended = threading.Event()
        send = producer(topic)

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = Errand(work, tag)
            send(tag.encode())
            return errand.wait

        with workers(1, lambda: consume(topic, errands, ended), ended.set):
            yield Way(go)

    return opened


def _confluent_producer(topic: str) -> Callable[[bytes], None]:
    producer = confluent_kafka.Producer({"bootstrap.servers": os.environ["BROKER_URL"], "linger.ms": 1})

    def send(body: bytes) -> None:
        producer.produce(topic, body)
        producer.poll(0)

    return send


def _confluent_consumer(topic: str) -> Any:
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": os.environ["BROKER_URL"], "group.id": topic, "auto.offset.reset": "earliest"}
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
    producer = kafka.KafkaProducer(bootstrap_servers=os.environ["BROKER_URL"])

    def send(body: bytes) -> None:
        producer.send(topic, body)

    return send


def _python_consumer(topic: str, **options: Any) -> Any:
    return kafka.KafkaConsumer(
        topic,
        bootstrap_servers=os.environ["BROKER_URL"],
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


def _aio(topic: str, consume: Callable[[Any, dict[str, AsyncErrand]], Any]) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        _topic(topic)
        server = os.environ["BROKER_URL"]
        errands: dict[str, AsyncErrand] = {}
        senders: set[asyncio.Task[Any]] = set()
        async with (
            aiokafka.AIOKafkaProducer(bootstrap_servers=server) as producer,
            aiokafka.AIOKafkaConsumer(
                topic, bootstrap_servers=server, group_id=topic, auto_offset_reset="earliest"
            ) as consumer,
        ):
            worker = asyncio.create_task(consume(consumer, errands))

            def go(work: Work, tag: str) -> Wait:
                errand = errands[tag] = AsyncErrand(work, tag)
                sender = asyncio.ensure_future(producer.send(topic, tag.encode()))
                senders.add(sender)
                sender.add_done_callback(senders.discard)
                return errand.wait

            yield Way(go)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    return opened


async def _aio_iterate(consumer: Any, errands: dict[str, AsyncErrand]) -> None:
    async for record in consumer:
        errands[record.value.decode()].do()


async def _aio_getmany(consumer: Any, errands: dict[str, AsyncErrand]) -> None:
    while True:
        for records in (await consumer.getmany(timeout_ms=200, max_records=1)).values():
            for record in records:
                errands[record.value.decode()].do()


HOPS = [
    Hop(
        "Kafka, confluent-kafka poll", _threaded("a", _confluent_producer, _confluent_poll), contexts=MESSAGES
    ),
    Hop(
        "Kafka, confluent-kafka consume",
        _threaded("b", _confluent_producer, _confluent_consume),
        contexts=MESSAGES,
    ),
    Hop("Kafka, kafka-python iterator", _threaded("c", _python_producer, _python_iterate), contexts=MESSAGES),
    Hop("Kafka, kafka-python poll", _threaded("d", _python_producer, _python_poll), contexts=MESSAGES),
    Hop("Kafka, aiokafka iterator", _aio("e", _aio_iterate), asyncio.run, contexts=MESSAGES),
    Hop("Kafka, aiokafka getmany", _aio("f", _aio_getmany), asyncio.run, contexts=MESSAGES),
]
