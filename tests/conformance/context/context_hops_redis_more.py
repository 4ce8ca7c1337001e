"""Redis beyond what a doctor tries: transactions, entries that are claimed, lists that serve as queues."""

from __future__ import annotations

import asyncio
import os
import sys
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
async def _transaction() -> AsyncIterator[Way]:
    """Entries are added in transactions, and read in pipelines."""
    client = redis.Redis.from_url(os.environ["BROKER_URL"])
    errands: dict[str, Errand] = {}
    last = b"0"

    def read() -> Any:
        with client.pipeline(transaction=False) as pipeline:
            pipeline.xread({"piped": last}, 1, 200)
            return pipeline.execute()[0]

    def consume() -> None:
        nonlocal last
        while True:
            for _, entries in read():
                for entry, fields in entries:
                    last = entry
                    if fields[b"tag"] == STOP.encode():
                        return
                    errands[fields[b"tag"].decode()].do()

    def go(work: Work, tag: str) -> Wait:
        errand = errands[tag] = Errand(work, tag)
        with client.pipeline() as transaction:
            transaction.incr("orders-count").xadd("piped", {"tag": tag})
            transaction.execute()
        return errand.wait

    with workers(1, consume, lambda: client.xadd("piped", {"tag": STOP})):
        yield Way(go)


@asynccontextmanager
async def _claimed() -> AsyncIterator[Way]:
    """One consumer reads and dies, which is played; another one claims what it left."""
    client = redis.Redis.from_url(os.environ["BROKER_URL"])
    errands: dict[str, Errand] = {}
    client.xgroup_create("left", "workers", "$", mkstream=True)

    def consume() -> None:
        while True:
            # By its command, so that nothing of ours sees it: what the dead one did is not looked at.
            client.execute_command(
                "XREADGROUP", "GROUP", "workers", "dead", "COUNT", 1, "STREAMS", "left", ">"
            )
            for entry, fields in client.xautoclaim("left", "workers", "living", 0, count=1)[1]:
                if fields[b"tag"] == STOP.encode():
                    return
                errands[fields[b"tag"].decode()].do()
                client.xack("left", "workers", entry)

    def go(work: Work, tag: str) -> Wait:
        errand = errands[tag] = Errand(work, tag)
        client.xadd("left", {"tag": tag})
        return errand.wait

    with workers(1, consume, lambda: client.xadd("left", {"tag": STOP})):
        yield Way(go)


@asynccontextmanager
async def _list() -> AsyncIterator[Way]:
    """A list that serves as a queue: nothing but the body goes through it."""
    client = redis.Redis.from_url(os.environ["BROKER_URL"])
    errands: dict[str, Errand] = {}

    def consume() -> None:
        while True:
            _, message = client.brpop(["jobs"])
            body, headers = messages.unwrap(message)
            if body == STOP.encode():
                return
            with tracing.extracted(headers):
                errands[body.decode()].do()

    def go(work: Work, tag: str) -> Wait:
        errand = errands[tag] = Errand(work, tag)
        client.lpush("jobs", messages.wrap(tag.encode()))
        return errand.wait

    with workers(2, consume, lambda: client.lpush("jobs", STOP)):
        yield Way(go)


@asynccontextmanager
async def _async_pub_sub() -> AsyncIterator[Way]:
    client = redis.asyncio.Redis.from_url(os.environ["BROKER_URL"])
    errands: dict[str, AsyncErrand] = {}
    senders: set[asyncio.Task[Any]] = set()
    subscription = client.pubsub(ignore_subscribe_messages=True)
    await subscription.subscribe("async-events")

    async def consume() -> None:
        async for message in subscription.listen():
            body, headers = messages.unwrap(message["data"])
            with tracing.extracted(headers):
                errands[body.decode()].do()

    task = asyncio.create_task(consume())

    def go(work: Work, tag: str) -> Wait:
        errand = errands[tag] = AsyncErrand(work, tag)
        # The envelope is made here: a coroutine may begin when the request is over.
        sender = asyncio.ensure_future(client.publish("async-events", messages.wrap(tag.encode())))
        senders.add(sender)
        sender.add_done_callback(senders.discard)
        return errand.wait

    yield Way(go)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await subscription.aclose()
    await client.aclose()


ENVELOPES = [
    Hop("Redis pub/sub, asyncio, our envelope", _async_pub_sub, asyncio.run, contexts=MESSAGES),
    Hop("Redis list, our envelope", _list, contexts=MESSAGES),
]
HOPS = [
    Hop("Redis stream, transactions and pipelines", _transaction, contexts=MESSAGES),
    Hop("Redis stream, XAUTOCLAIM", _claimed, contexts=MESSAGES),
    *(ENVELOPES if OURS else []),
]
