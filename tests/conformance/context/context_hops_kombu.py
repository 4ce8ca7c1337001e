"""kombu on RabbitMQ: callbacks, a mixin, simple queues, and its generator of messages."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from queue import Empty
from typing import Any

import kombu
import kombu.common
import kombu.mixins
from context_hop import Errand, Hop, Wait, Way, Work, workers

BROKER = "rabbitmq"
MESSAGES = 100
POLL_S = 0.2

Errands = dict[str, Errand]
Consume = Callable[[kombu.Connection, kombu.Queue, Errands, threading.Event], None]


def _hop(name: str, consume: Consume) -> Any:
    """A thread with a connection of its own consumes; the requests publish."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        queue = kombu.Queue(name, kombu.Exchange(name), routing_key=name)
        connection = kombu.Connection(os.environ["BROKER_URL"])
        producer = connection.Producer(exchange=queue.exchange, routing_key=name)
        queue(connection.default_channel).declare()
        errands: Errands = {}
        ended = threading.Event()

        def work_on() -> None:
            with kombu.Connection(os.environ["BROKER_URL"]) as own:
                consume(own, queue, errands, ended)

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = Errand(work, tag)
            producer.publish(tag)
            return errand.wait

        with workers(1, work_on, ended.set):
            yield Way(go)
        connection.release()

    return opened


def _by_callback(connection: kombu.Connection, queue: kombu.Queue, errands: Errands, ended: Any) -> None:
    def on_body(body: str, message: kombu.Message) -> None:
        errands[body].do()
        message.ack()

    with connection.Consumer([queue], callbacks=[on_body]):
        while not ended.is_set():
            with suppress(TimeoutError):
                connection.drain_events(timeout=POLL_S)


def _by_message(connection: kombu.Connection, queue: kombu.Queue, errands: Errands, ended: Any) -> None:
    def on_message(message: kombu.Message) -> None:
        errands[message.decode()].do()
        message.ack()

    with connection.Consumer([queue], on_message=on_message):
        while not ended.is_set():
            with suppress(TimeoutError):
                connection.drain_events(timeout=POLL_S)


def _by_mixin(connection: kombu.Connection, queue: kombu.Queue, errands: Errands, ended: Any) -> None:
    class Worker(kombu.mixins.ConsumerMixin):  # type: ignore[misc]  # a class of an untyped library
        def __init__(self) -> None:
            self.connection = connection

        def get_consumers(self, consumer: Any, _: Any) -> list[Any]:
            return [consumer([queue], callbacks=[self.on_body])]

        def on_body(self, body: str, message: kombu.Message) -> None:
            errands[body].do()
            message.ack()

    worker = Worker()
    threading.Thread(target=lambda: (ended.wait(), setattr(worker, "should_stop", True))).start()
    worker.run()


def _by_simple_queue(connection: kombu.Connection, queue: kombu.Queue, errands: Errands, ended: Any) -> None:
    with connection.SimpleQueue(queue) as simple:
        while not ended.is_set():
            with suppress(Empty):
                message = simple.get(timeout=POLL_S)
                errands[message.payload].do()
                message.ack()


def _by_queue_get(connection: kombu.Connection, queue: kombu.Queue, errands: Errands, ended: Any) -> None:
    bound = queue(connection.default_channel)
    while not ended.is_set():
        message = bound.get(no_ack=True)
        if message is not None:
            errands[message.payload].do()
        else:
            ended.wait(0.01)  # this way of consuming is polling


def _by_itermessages(connection: kombu.Connection, queue: kombu.Queue, errands: Errands, ended: Any) -> None:
    while not ended.is_set():
        channel = connection.channel()
        for body, message in kombu.common.itermessages(
            connection, channel, queue, limit=None, timeout=POLL_S
        ):
            errands[body].do()
            message.ack()
            if ended.is_set():
                return


HOPS = [
    Hop("kombu, callbacks", _hop("callbacks", _by_callback), contexts=MESSAGES),
    Hop("kombu, on_message", _hop("on-message", _by_message), contexts=MESSAGES),
    Hop("kombu, ConsumerMixin", _hop("mixin", _by_mixin), contexts=MESSAGES),
    Hop("kombu, SimpleQueue", _hop("simple", _by_simple_queue), contexts=MESSAGES),
    Hop("kombu, Queue.get", _hop("get", _by_queue_get), contexts=MESSAGES),
    Hop("kombu, itermessages", _hop("itermessages", _by_itermessages), contexts=MESSAGES),
]
