"""Redis Streams beyond the matrix: pipelines, entries that are claimed, streams that are only looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.client
from context_server import GATEWAY_TRACE_ID, broker_url, from_gateway, ids, instrumented, producers
from redis.commands.core import StreamCommands

import tracing
from tracing.testing import Captured

READING = ("xread", "xreadgroup", "xclaim", "xautoclaim", "xrange", "xrevrange")


@pytest.fixture(scope="module")
def url(need: Callable[[bool, str], None]) -> Iterator[str]:
    """A server."""
    with broker_url("redis", need) as found:
        yield found


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def client(url: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client of either protocol; the server is empty."""
    with redis.Redis.from_url(url, protocol=request.param) as found:
        found.flushall()
        yield found


@pytest.fixture
def captured() -> Iterator[Captured]:
    """With streams on."""
    with instrumented("redis") as lines:
        yield lines


def add(client: Any, count: int) -> list[bytes]:
    """Add entries to `orders`, each inside a request of its own; their ids."""
    found = []
    for number in range(count):
        with tracing.span(f"request {number}"):
            found.append(client.xadd("orders", {"order": number}))
    return found


def test_a_pipeline_reads_a_batch(client: Any, captured: Captured) -> None:
    """All that it read is one batch; what it did beside that is answered as ever."""
    add(client, 2)
    with client.pipeline() as transaction:
        transaction.set("key", 1).xread({"orders": "0"}).xrange("orders", count=1).get("key")
        answers = transaction.execute()
    inside = tracing.current_span_id()
    assert answers[0] is True and answers[3] == b"1"
    assert [fields for _, fields in answers[2]] == [{b"order": b"0"}]
    client.pipeline().set("other", 1).execute()
    assert tracing.current_span_id() == inside is not None, "a pipeline that reads nothing ends nothing"
    assert not client.xread({"orders": "$"})
    assert tracing.current_span_id() is None
    assert ids(captured.span("process orders")["links"]) == ids(producers(captured))


def test_entries_of_a_transaction_have_a_producer_each(client: Any, captured: Captured) -> None:
    """They are of one request, and a consumer of each is below its own."""
    with tracing.span("request"), client.pipeline() as transaction:
        transaction.xadd("orders", {"order": 1}).xadd("orders", {"order": 2}).execute()
    client.xread({"orders": "0"}, count=1)
    client.xread({"orders": "$"})
    first, second = producers(captured)
    assert first["parent_span_id"] == second["parent_span_id"] == captured.span("request")["span_id"]
    assert captured.span("process orders")["parent_span_id"] == first["span_id"]


def test_claimed_entries_are_worked_on(client: Any, captured: Captured) -> None:
    """By `XCLAIM` and by `XAUTOCLAIM`; where only ids are asked for there is no work yet."""
    entries = add(client, 2)
    client.xgroup_create("orders", "workers", "0")
    client.execute_command("XREADGROUP", "GROUP", "workers", "dead", "STREAMS", "orders", ">")
    assert client.xclaim("orders", "workers", "me", 0, entries, justid=True) == entries
    client.xautoclaim("orders", "workers", "me", 0, justid=True)
    assert tracing.current_span_id() is None
    assert client.xclaim("orders", "workers", "me", 0, entries[:1]) == [(entries[0], {b"order": b"0"})]
    first = tracing.current_trace_id()
    [_, [_, (_, fields)], *_] = client.xautoclaim(
        name="orders", groupname="workers", consumername="me", min_idle_time=0
    )
    assert fields == {b"order": b"1"} and tracing.current_trace_id() != first
    assert not client.xread({"orders": "$"})
    single, batch = [span for span in captured.spans if span["name"] == "process orders"]
    sent = producers(captured)
    assert single["parent_span_id"] == sent[0]["span_id"] and ids(batch["links"]) == ids(sent)


def test_a_look_at_a_stream_begins_nothing(client: Any, captured: Captured) -> None:
    """And shows the program's own fields, as without the library."""
    add(client, 1)
    for entries in (client.xrange("orders"), client.xrevrange("orders")):
        assert [fields for _, fields in entries] == [{b"order": b"0"}]
    assert tracing.current_span_id() is None


def test_the_async_client(url: str, captured: Captured) -> None:
    """Its pipelines stay pipelines while commands are added, and can be awaited as they are."""

    async def test() -> None:
        async with redis.asyncio.Redis.from_url(url) as client:
            await client.flushall()
            with tracing.span("request"):
                await client.pipeline().xadd("orders", {"order": 1}).execute()
            pipeline = client.pipeline()
            assert pipeline.xread({"orders": "0"}).xrange("orders") is pipeline
            [[[_, [(_, fields)]]], [(_, looked)]] = await pipeline.execute()
            assert fields == looked == {b"order": b"1"}
            assert tracing.current_trace_id() == captured.span("request")["trace_id"]
            assert not await client.xread({"orders": "$"})
            assert tracing.current_trace_id() is None

    asyncio.run(test())
    assert captured.span("process orders")


def test_the_id_of_a_gateway_is_in_the_entry(client: Any, captured: Captured) -> None:
    """A consumer in another language finds it there."""
    with from_gateway():
        client.xadd("orders", {"order": 7})
    tracing.uninstrument()
    [(_, fields)] = client.xrange("orders")
    assert fields[b"X-Trace-ID"].decode() == GATEWAY_TRACE_ID and fields[b"order"] == b"7"


def test_removal_puts_the_commands_back() -> None:
    """Each is the library's own again; excluded by name nothing was ever replaced."""
    places = [(StreamCommands, name) for name in ("xadd", *READING)]
    places += [(redis.client.Pipeline, "execute"), (redis.asyncio.client.Pipeline, "execute")]
    before = [vars(place)[name] for place, name in places]
    with instrumented("redis"):
        assert all(vars(place)[name] is not old for (place, name), old in zip(places, before, strict=True))
    assert [vars(place)[name] for place, name in places] == before
    with instrumented("threads"):
        tracing.instrument(exclude=["redis"])
        assert [vars(place)[name] for place, name in places] == before
