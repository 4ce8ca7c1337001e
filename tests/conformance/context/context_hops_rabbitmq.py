"""RabbitMQ: pika's callbacks, generators and gets, aio-pika's callbacks and iterators."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import pika
from context_hop import AsyncErrand, Errand, Hop, Wait, Way, Work, workers

BROKER = "rabbitmq"
MESSAGES = 300
POLL_S = 0.2
ENDED = "no more"

Errands = dict[str, Errand]


def _pika(queue: str, consume: Callable[[Any, str, Errands, threading.Event], None]) -> Any:
    """A thread with a connection of its own consumes; the requests publish."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        parameters = pika.URLParameters(os.environ["BROKER_URL"])
        connection = pika.BlockingConnection(parameters)
        channel = connection.channel()
        channel.queue_declare(queue)
        errands: Errands = {}
        ended = threading.Event()

        def work_on() -> None:
            own = pika.BlockingConnection(parameters)
            consume(own.channel(), queue, errands, ended)
            own.close()

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = Errand(work, tag)
            channel.basic_publish("", queue, tag.encode())
            return errand.wait

        with workers(1, work_on, ended.set):
            yield Way(go)
        connection.close()

    return opened


def _by_callback(channel: Any, queue: str, errands: Errands, ended: threading.Event) -> None:
    def on_message(_: Any, method: Any, properties: Any, body: bytes) -> None:
        errands[body.decode()].do()
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, on_message)
    while not ended.is_set():
        channel.connection.process_data_events(POLL_S)


def _by_generator(channel: Any, queue: str, errands: Errands, ended: threading.Event) -> None:
    for method, _, body in channel.consume(queue, inactivity_timeout=POLL_S):
        if method is not None:
            errands[body.decode()].do()
            channel.basic_ack(method.delivery_tag)
        elif ended.is_set():
            break
    channel.cancel()


def _by_get(channel: Any, queue: str, errands: Errands, ended: threading.Event) -> None:
    while not ended.is_set():
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is not None:
            errands[body.decode()].do()
        else:
            channel.connection.process_data_events(0.01)


def _aio(name: str, consume: Callable[[Any, dict[str, AsyncErrand]], Any]) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        connection = await aio_pika.connect(os.environ["BROKER_URL"])
        exchange = (await connection.channel()).default_exchange
        queue = await (await connection.channel()).declare_queue(name, auto_delete=True)
        errands: dict[str, AsyncErrand] = {}
        senders: set[asyncio.Task[Any]] = set()
        consumer = asyncio.create_task(consume(queue, errands))

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = AsyncErrand(work, tag)
            message = aio_pika.Message(tag.encode())
            sender = asyncio.ensure_future(exchange.publish(message, name))
            senders.add(sender)
            sender.add_done_callback(senders.discard)
            return errand.wait

        yield Way(go)
        errands[ENDED] = AsyncErrand(None)  # `wait_for` inside `get` may swallow a cancellation
        if consume is not _aio_get:
            consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
        await connection.close()

    return opened


async def _aio_callback(queue: Any, errands: dict[str, AsyncErrand]) -> None:
    async def on_message(message: Any) -> None:
        async with message.process():
            errands[message.body.decode()].do()

    await queue.consume(on_message)


async def _aio_iterator(queue: Any, errands: dict[str, AsyncErrand]) -> None:
    async with queue.iterator() as messages:
        async for message in messages:
            async with message.process():
                errands[message.body.decode()].do()


async def _aio_get(queue: Any, errands: dict[str, AsyncErrand]) -> None:
    while ENDED not in errands:
        message = await queue.get(fail=False, no_ack=True)
        if message is not None:
            errands[message.body.decode()].do()
        else:
            await asyncio.sleep(0.01)  # this way of consuming is polling


HOPS = [
    Hop("RabbitMQ, pika callback", _pika("callback", _by_callback), contexts=MESSAGES),
    Hop("RabbitMQ, pika consume() generator", _pika("generator", _by_generator), contexts=MESSAGES),
    Hop("RabbitMQ, pika basic_get", _pika("get", _by_get), contexts=MESSAGES),
    Hop("RabbitMQ, aio-pika callback", _aio("aio-callback", _aio_callback), asyncio.run, contexts=MESSAGES),
    Hop("RabbitMQ, aio-pika iterator", _aio("aio-iterator", _aio_iterator), asyncio.run, contexts=MESSAGES),
    Hop("RabbitMQ, aio-pika get()", _aio("aio-get", _aio_get), asyncio.run, contexts=MESSAGES),
]
