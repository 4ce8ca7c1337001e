"""NATS: core callbacks, queue groups, iterators, gets and answers; JetStream pushed and pulled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import nats.errors
from context_hop import DEADLINE_S, AsyncErrand, Hop, Wait, Way, Work

BROKER = "nats"
STREAM = "STORED"

Errands = dict[str, AsyncErrand]


def _hop(
    subject: str,
    consume: Callable[[Any, str, Errands], Awaitable[None]],
    publish: Callable[[Any, str, bytes], Awaitable[Any]] | None = None,
) -> Any:
    """A task subscribes, on a connection of its own; the requests publish.

    Args:
        consume: subscribes, and works until it is cancelled; or returns once callbacks do.
        publish: how; by default as the core client does.
    """

    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        receiving = await nats.connect(os.environ["BROKER_URL"])
        sending = await nats.connect(os.environ["BROKER_URL"])
        if subject.startswith(STREAM):
            await sending.jetstream().add_stream(name=subject.replace(".", "-"), subjects=[subject])
        errands: Errands = {}
        senders: set[asyncio.Task[Any]] = set()
        worker = asyncio.ensure_future(consume(receiving, subject, errands))
        await asyncio.sleep(0)  # one step: it has asked for its subscription
        await receiving.flush()

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = AsyncErrand(work, tag)
            message = subject, tag.encode()
            coroutine = publish(sending, *message) if publish else sending.publish(*message)
            sender = asyncio.ensure_future(coroutine)
            senders.add(sender)
            sender.add_done_callback(senders.discard)
            return errand.wait

        yield Way(go)
        worker.cancel()
        await asyncio.gather(worker, *senders, return_exceptions=True)
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


async def _iterator(client: Any, subject: str, errands: Errands) -> None:
    subscription = await client.subscribe(subject)
    async for message in subscription.messages:
        errands[message.data.decode()].do()


async def _next_msg(client: Any, subject: str, errands: Errands) -> None:
    subscription = await client.subscribe(subject)
    while True:
        message = await subscription.next_msg(DEADLINE_S)
        errands[message.data.decode()].do()


async def _answering(client: Any, subject: str, errands: Errands) -> None:
    async def on_request(message: Any) -> None:
        errands[message.data.decode()].do()
        await message.respond(b"done")

    await client.subscribe(subject, cb=on_request)


async def _request(client: Any, subject: str, body: bytes) -> None:
    await client.request(subject, body, DEADLINE_S)


async def _store(client: Any, subject: str, body: bytes) -> None:
    await client.jetstream().publish(subject, body, DEADLINE_S)


async def _pushed(client: Any, subject: str, errands: Errands) -> None:
    async def on_message(message: Any) -> None:
        errands[message.data.decode()].do()
        await message.ack()

    await client.jetstream().subscribe(subject, cb=on_message, manual_ack=True)


async def _pushed_iterator(client: Any, subject: str, errands: Errands) -> None:
    subscription = await client.jetstream().subscribe(subject)
    async for message in subscription.messages:
        errands[message.data.decode()].do()
        await message.ack()


async def _pulled(client: Any, subject: str, errands: Errands) -> None:
    subscription = await client.jetstream().pull_subscribe(subject, "puller")
    while True:
        try:
            [message] = await subscription.fetch(1, timeout=5)
        except nats.errors.TimeoutError:
            continue
        errands[message.data.decode()].do()
        await message.ack()


HOPS = [
    Hop("NATS, callback", _hop("callback", _callback), asyncio.run),
    Hop("NATS, queue group", _hop("group", _queue_group), asyncio.run),
    Hop("NATS, iterator", _hop("iterator", _iterator), asyncio.run),
    Hop("NATS, next_msg()", _hop("next", _next_msg), asyncio.run),
    Hop("NATS, request and answer", _hop("request", _answering, _request), asyncio.run),
    Hop("NATS JetStream, push callback", _hop(f"{STREAM}.callback", _pushed, _store), asyncio.run),
    Hop("NATS JetStream, push iterator", _hop(f"{STREAM}.iterator", _pushed_iterator, _store), asyncio.run),
    Hop("NATS JetStream, pull", _hop(f"{STREAM}.pull", _pulled, _store), asyncio.run),
]
