"""Redis: streams, and pub/sub with an envelope."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis
import redis.asyncio
from context_hop import AsyncErrand, Errand, Hop, Wait, Way, Work, workers

import tracing
from tracing.propagation import messages

BROKER = "redis"
MESSAGES = 300
STOP = "stop"
OURS = sys.argv[1:2] == ["ours"]  # the other library has nothing of the kind


@asynccontextmanager
async def _stream() -> AsyncIterator[Way]:
    """Two threads of a consumer group; connections come from the client's pool."""
    client = redis.Redis.from_url(os.environ["BROKER_URL"])
    errands: dict[str, Errand] = {}
    client.xgroup_create("orders", "workers", "$", mkstream=True)

    def consume() -> None:
        while True:
            answer: Any = client.xreadgroup(
                "workers", threading.current_thread().name, {"orders": ">"}, 1, 5000
            )
            for _, entries in answer:
                for entry, fields in entries:
                    if fields[b"tag"] == STOP.encode():
                        return
                    errands[fields[b"tag"].decode()].do()
                    client.xack("orders", "workers", entry)

    def go(work: Work, tag: str) -> Wait:
        errand = errands[tag] = Errand(work, tag)
        client.xadd("orders", {"tag": tag})
        return errand.wait

    with workers(2, consume, lambda: client.xadd("orders", {"tag": STOP})):
        yield Way(go)


@asynccontextmanager
async def _async_stream() -> AsyncIterator[Way]:
    client = redis.asyncio.Redis.from_url(os.environ["BROKER_URL"])
    errands: dict[str, AsyncErrand] = {}
    senders: set[asyncio.Task[Any]] = set()

    async def consume() -> None:
        last = b"0"
        while True:
            for _, entries in await client.xread({"async-orders": last}, 1, 5000):
                for entry, fields in entries:
                    last = entry
                    errands[fields[b"tag"].decode()].do()

    task = asyncio.create_task(consume())

    def go(work: Work, tag: str) -> Wait:
        errand = errands[tag] = AsyncErrand(work, tag)
        sender = asyncio.ensure_future(client.xadd("async-orders", {"tag": tag}))
        senders.add(sender)
        sender.add_done_callback(senders.discard)
        return errand.wait

    yield Way(go)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.aclose()


@asynccontextmanager
async def _pub_sub() -> AsyncIterator[Way]:
    """Redis has no place for headers there: the program uses the envelope by itself."""
    client = redis.Redis.from_url(os.environ["BROKER_URL"])
    errands: dict[str, Errand] = {}
    subscription = client.pubsub(ignore_subscribe_messages=True)
    subscription.subscribe("events")
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
        client.publish("events", messages.wrap(tag.encode()))
        return errand.wait

    with workers(1, consume, ended.set):
        yield Way(go)


HOPS = [
    Hop("Redis stream, consumer group", _stream, contexts=MESSAGES),
    Hop("Redis stream, asyncio", _async_stream, asyncio.run, contexts=MESSAGES),
    *([Hop("Redis pub/sub, our envelope", _pub_sub, contexts=MESSAGES)] if OURS else []),
]
