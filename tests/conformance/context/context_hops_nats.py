"""NATS: core callbacks, queue groups, iterators, gets and answers; JetStream pushed and pulled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import nats
import nats.errors
from context_hop import DEADLINE_S, AsyncErrand, Hop, Wait, Way, Work

from tracing.doctor.hop import Consumer

BROKER = "nats"
STREAM = "STORED"

Errands = dict[str, AsyncErrand]
Subscribe = Callable[[Any, str, Errands], Awaitable[Any]]
Loop = Callable[[Any, Errands], Coroutine[Any, Any, None]]
Publish = Callable[[Any, str, bytes], Awaitable[Any]]


async def _plainly(client: Any, subject: str, body: bytes) -> None:
    await client.publish(subject, body)
    await client.flush(DEADLINE_S)


def _hop(subject: str, subscribe: Subscribe, loop: Loop | None = None, *, publish: Publish = _plainly) -> Any:
    """One connection subscribes, another one publishes.

    Args:
        subscribe: with callbacks; or gives the subscription that `loop`, in a task of its own, asks.
    """

    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        # A connection that is made a second time, on a slow machine, would miss what is sent meanwhile.
        receiving = await nats.connect(os.environ["BROKER_URL"], connect_timeout=DEADLINE_S)
        sending = await nats.connect(os.environ["BROKER_URL"], connect_timeout=DEADLINE_S)
        if subject.startswith(STREAM):
            await sending.jetstream().add_stream(name=subject.replace(".", "-"), subjects=[subject])
        errands: Errands = {}
        senders: set[asyncio.Task[Any]] = set()
        subscription = await subscribe(receiving, subject, errands)
        for client in (receiving, sending):
            await client.flush(DEADLINE_S)
        consumer = Consumer(lambda: loop(subscription, errands)) if loop is not None else None

        def send(errand: AsyncErrand) -> None:
            errands[errand.tag] = errand
            sender = asyncio.ensure_future(publish(sending, subject, errand.tag.encode()))
            senders.add(sender)
            sender.add_done_callback(senders.discard)

        def go(work: Work, tag: str) -> Wait:
            errand = AsyncErrand(work, tag)
            send(errand)
            return errand.wait

        def cancel(tag: str) -> Wait:
            assert consumer is not None
            errand = AsyncErrand(None, tag)
            send(errand)
            return consumer.cancelled_in(errand)

        yield Way(go, cancel if consumer is not None else None)
        if consumer is not None:
            await consumer.end()
        await asyncio.gather(*senders, return_exceptions=True)
        await receiving.close()
        await sending.close()

    return opened


async def _callback(client: Any, subject: str, errands: Errands) -> None:
    async def on_message(message: Any) -> None:
        errands[message.data.decode()].do()

    await client.subscribe(subject, cb=on_message)


async def _queue_group(client: Any, subject: str, errands: Errands) -> None:
    async def on_message(message: Any) -> None:
        errands[message.data.decode()].do()

    for _ in range(3):
        await client.subscribe(subject, "workers", cb=on_message)


async def _answering(client: Any, subject: str, errands: Errands) -> None:
    async def on_request(message: Any) -> None:
        errands[message.data.decode()].do()
        await message.respond(b"done")

    await client.subscribe(subject, cb=on_request)


async def _request(client: Any, subject: str, body: bytes) -> None:
    await client.request(subject, body, DEADLINE_S)


async def _core(client: Any, subject: str, _: Errands) -> Any:
    return await client.subscribe(subject)


async def _iterate(subscription: Any, errands: Errands) -> None:
    async for message in subscription.messages:
        await errands[message.data.decode()].perform()


async def _get(subscription: Any, errands: Errands) -> None:
    while True:
        message = await subscription.next_msg(DEADLINE_S)
        await errands[message.data.decode()].perform()


async def _store(client: Any, subject: str, body: bytes) -> None:
    await client.jetstream().publish(subject, body, DEADLINE_S)


async def _pushed_callback(client: Any, subject: str, errands: Errands) -> None:
    async def on_message(message: Any) -> None:
        errands[message.data.decode()].do()
        await message.ack()

    await client.jetstream().subscribe(subject, cb=on_message, manual_ack=True)


async def _pushed(client: Any, subject: str, _: Errands) -> Any:
    return await client.jetstream().subscribe(subject)


async def _acknowledging(subscription: Any, errands: Errands) -> None:
    async for message in subscription.messages:
        await message.ack()  # first: one that is cancelled is not to come again
        await errands[message.data.decode()].perform()


async def _pulling(client: Any, subject: str, _: Errands) -> Any:
    return await client.jetstream().pull_subscribe(subject, "puller")


async def _pull(subscription: Any, errands: Errands) -> None:
    while True:
        try:
            [message] = await subscription.fetch(1, timeout=5)
        except nats.errors.TimeoutError:
            continue
        await message.ack()
        await errands[message.data.decode()].perform()


def _stored(name: str, subscribe: Subscribe, loop: Loop | None = None) -> Any:
    return _hop(f"{STREAM}.{name}", subscribe, loop, publish=_store)


HOPS = [
    Hop("NATS, callback", _hop("callback", _callback), asyncio.run),
    Hop("NATS, queue group", _hop("group", _queue_group), asyncio.run),
    Hop("NATS, iterator", _hop("iterator", _core, _iterate), asyncio.run),
    Hop("NATS, next_msg()", _hop("next", _core, _get), asyncio.run),
    Hop("NATS, request and answer", _hop("request", _answering, publish=_request), asyncio.run),
    Hop("NATS JetStream, push callback", _stored("callback", _pushed_callback), asyncio.run),
    Hop("NATS JetStream, push iterator", _stored("iterator", _pushed, _acknowledging), asyncio.run),
    Hop("NATS JetStream, pull", _stored("pull", _pulling, _pull), asyncio.run),
]
