"""RabbitMQ: pika's callbacks, generators and gets, aio-pika's callbacks and iterators."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tracing.doctor.brokers import MESSAGES, place, url
from tracing.doctor.hop import AsyncErrand, Consumer, Errand, Hop, Wait, Way, Work, workers

POLL_S = 0.2
ENDED = "no more"

Errands = dict[str, Errand]


def _pika(name: str, consume: Callable[[Any, str, Errands, threading.Event], None]) -> Any:
    """A thread with a connection of its own consumes; the requests publish."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        import pika

        queue = place(name)
        parameters = pika.URLParameters(url())
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
        channel.queue_delete(queue)
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
        import aio_pika

        connection = await aio_pika.connect(url())
        exchange = (await connection.channel()).default_exchange
        queue = await (await connection.channel()).declare_queue(place(name), exclusive=True)
        errands: dict[str, AsyncErrand] = {}
        senders: set[asyncio.Task[Any]] = set()
        consumer = Consumer(lambda: consume(queue, errands))

        def send(errand: AsyncErrand) -> None:
            tag = errand.tag
            errands[tag] = errand
            message = aio_pika.Message(tag.encode())
            sender = asyncio.ensure_future(exchange.publish(message, place(name)))
            senders.add(sender)
            sender.add_done_callback(senders.discard)

        def go(work: Work, tag: str) -> Wait:
            errand = AsyncErrand(work, tag)
            send(errand)
            return errand.wait

        def cancel(tag: str) -> Wait:
            errand = AsyncErrand(None, tag)
            send(errand)
            return consumer.cancelled_in(errand)

        # Callbacks run in tasks of the library's own, and `wait_for` inside `get` may swallow a cancellation.
        yield Way(go, cancel if consume is _aio_iterator else None)
        errands[ENDED] = AsyncErrand(None)
        await consumer.end(cancels=consume is not _aio_get)
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
                await errands[message.body.decode()].perform()


async def _aio_get(queue: Any, errands: dict[str, AsyncErrand]) -> None:
    while ENDED not in errands:
        message = await queue.get(fail=False, no_ack=True)
        if message is not None:
            errands[message.body.decode()].do()
        else:
            await asyncio.sleep(0.01)  # this way of consuming is polling


def _pika_hop(name: str, consume: Callable[[Any, str, Errands, threading.Event], None]) -> Hop:
    opened = _pika(name.replace(" ", "-"), consume)
    return Hop(f"RabbitMQ, pika {name}", opened, contexts=MESSAGES, needs=("pika",), by=("pika",))


def _aio_hop(name: str, consume: Callable[[Any, dict[str, AsyncErrand]], Any]) -> Hop:
    opened = _aio(f"aio-{name}", consume)
    title = f"RabbitMQ, aio-pika {name}"
    return Hop(title, opened, asyncio.run, contexts=MESSAGES, needs=("aio_pika",), by=("aio-pika",))


HOPS = [
    _pika_hop("callback", _by_callback),
    _pika_hop("consume() generator", _by_generator),
    _pika_hop("basic_get", _by_get),
    _aio_hop("callback", _aio_callback),
    _aio_hop("iterator", _aio_iterator),
    _aio_hop("get()", _aio_get),
]
