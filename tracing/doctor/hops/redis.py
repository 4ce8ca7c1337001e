"""Redis: streams, and pub/sub with an envelope."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import tracing
from tracing.doctor.brokers import MESSAGES, place, url
from tracing.doctor.hop import AsyncErrand, Consumer, Errand, Hop, Wait, Way, Work, workers
from tracing.propagation import messages

STOP = "stop"


@asynccontextmanager
async def _stream() -> AsyncIterator[Way]:
    """Two threads of a consumer group; connections come from the client's pool."""
    import redis

    client: Any = redis.Redis.from_url(url())
    errands: dict[str, Errand] = {}
    stream = place("orders")
    client.xgroup_create(stream, "workers", "$", mkstream=True)

    def consume() -> None:
        while True:
            answer: Any = client.xreadgroup(
                "workers", threading.current_thread().name, {stream: ">"}, 1, 5000
            )
            for _, entries in answer:
                for entry, fields in entries:
                    if fields[b"tag"] == STOP.encode():
                        return
                    errands[fields[b"tag"].decode()].do()
                    client.xack(stream, "workers", entry)

    def go(work: Work, tag: str) -> Wait:
        errand = errands[tag] = Errand(work, tag)
        client.xadd(stream, {"tag": tag})
        return errand.wait

    with workers(2, consume, lambda: client.xadd(stream, {"tag": STOP})):
        yield Way(go)
    client.delete(stream)


@asynccontextmanager
async def _async_stream() -> AsyncIterator[Way]:
    import redis.asyncio

    client = redis.asyncio.Redis.from_url(url())
    stream = place("async-orders")
    errands: dict[str, AsyncErrand] = {}
    senders: set[asyncio.Task[Any]] = set()

    last = b"0"

    async def consume() -> None:
        nonlocal last
        while True:
            for _, entries in await client.xread({stream: last}, 1, 5000):
                for last, fields in entries:  # noqa: B007  # the loop after a cancelled one goes on from there
                    await errands[fields[b"tag"].decode()].perform()

    consumer = Consumer(consume)

    def send(errand: AsyncErrand) -> None:
        errands[errand.tag] = errand
        sender = asyncio.ensure_future(client.xadd(stream, {"tag": errand.tag}))
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

    yield Way(go, cancel)
    await consumer.end()
    await client.delete(stream)
    await client.aclose()


@asynccontextmanager
async def _pub_sub() -> AsyncIterator[Way]:
    """Redis has no place for headers there: the program uses the envelope by itself."""
    import redis

    client: Any = redis.Redis.from_url(url())
    errands: dict[str, Errand] = {}
    subscription = client.pubsub(ignore_subscribe_messages=True)
    subscription.subscribe(place("events"))
    ended = threading.Event()

    def consume() -> None:
        while not ended.is_set():
            message = subscription.get_message(timeout=0.2)
            if message is not None:
                body, headers = messages.unwrap(message["data"])
                with tracing.extracted(headers):
                    errands[body.decode()].do()

    def go(work: Work, tag: str) -> Wait:
        errand = errands[tag] = Errand(work, tag)
        client.publish(place("events"), messages.wrap(tag.encode()))
        return errand.wait

    with workers(1, consume, ended.set):
        yield Way(go)


_REDIS = ("redis",)

HOPS = [
    Hop("Redis stream, consumer group", _stream, contexts=MESSAGES, needs=_REDIS, by=_REDIS),
    Hop("Redis stream, asyncio", _async_stream, asyncio.run, contexts=MESSAGES, needs=_REDIS, by=_REDIS),
    Hop("Redis pub/sub, our envelope", _pub_sub, contexts=MESSAGES, needs=_REDIS),
]
