"""NATS beyond the matrix: batches, answers, JetStream's own subjects, peers without the library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import nats
import pytest
from context_server import GATEWAY_TRACE_ID, broker_url, from_gateway, ids, instrumented, producers
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.js.client import JetStreamContext

import tracing
from tracing.testing import Captured

Test = Callable[[Any], Coroutine[Any, Any, None]]
TIMEOUT_S = 20


@pytest.fixture(scope="module")
def url(need: Callable[[bool, str], None]) -> Iterator[str]:
    """A server with JetStream."""
    with broker_url("nats", need) as found:
        yield found


@pytest.fixture
def captured() -> Iterator[Captured]:
    """With NATS on."""
    with instrumented("nats") as lines:
        yield lines


def with_client(url: str, test: Test) -> None:
    """Run a test with a connection of its own."""

    async def main() -> None:
        client = await nats.connect(url)
        try:
            await asyncio.wait_for(test(client), TIMEOUT_S)
        finally:
            await client.close()

    asyncio.run(main())


def test_a_fetched_batch_has_one_span_with_links(url: str, captured: Captured) -> None:
    """It ends with the next fetch; acknowledging is the program's work on it, and no message."""

    async def test(client: Any) -> None:
        jetstream = client.jetstream()
        await jetstream.add_stream(name="BATCH", subjects=["batch"])
        for number in range(3):
            with tracing.span(f"request {number}"):
                await jetstream.publish("batch", b"")
        subscription = await jetstream.pull_subscribe("batch", "durable")
        found = await subscription.fetch(3)
        inside = tracing.current_span_id()
        await found[0].ack()
        await found[1].nak(delay=60)
        await found[2].term()
        assert tracing.current_span_id() == inside is not None
        with pytest.raises(TimeoutError):  # asyncio's, or the client's own, which is one
            await subscription.fetch(2, timeout=0.1)
        assert tracing.current_span_id() is None

    with_client(url, test)
    batch = captured.span("process batch")
    assert ids(batch["links"]) == ids(producers(captured))
    assert batch["attributes"]["messaging.batch.message_count"] == 3
    assert {span["name"] for span in producers(captured)} == {"send batch"}


def test_a_consumer_that_waits_with_wait_for(url: str, captured: Captured) -> None:
    """Before Python 3.12 that is a task of its own, and the message is its caller's all the same."""

    async def test(client: Any) -> None:
        jetstream = client.jetstream()
        await jetstream.add_stream(name="WAITED", subjects=["waited"])
        pulled = await jetstream.pull_subscribe("waited", "puller")
        core = await client.subscribe("core")
        pushed = await jetstream.subscribe("waited")
        with tracing.span("request"):
            sent = tracing.current_trace_id()
            await jetstream.publish("waited", b"")
            await client.publish("core", b"")

        async def consume(get: Callable[[], Any]) -> None:
            await asyncio.wait_for(get(), TIMEOUT_S)
            assert tracing.current_trace_id() == sent, get

        for get in (core.next_msg, pulled.fetch, pushed.next_msg):
            await asyncio.create_task(consume(get))

    tracing.instrument("asyncio-queues")
    with_client(url, test)


def test_an_answer_has_headers_and_no_span(url: str, captured: Captured) -> None:
    """Its subject is made up for one request, and would be a name that never comes again."""
    answers = []

    async def test(client: Any) -> None:
        async def on_request(message: Any) -> None:
            await message.respond(b"pong")

        await client.subscribe("ping", cb=on_request)
        with tracing.span("request"):
            answers.append(await client.request("ping", b"ping", TIMEOUT_S))

    with_client(url, test)
    assert [span["name"] for span in captured.spans] == ["process ping", "send ping", "request"]
    [answer] = answers
    assert captured.span("process ping")["span_id"] in answer.headers["traceparent"]


def test_a_connection_made_in_a_request_does_not_carry_it(url: str, captured: Captured) -> None:
    """Messages of others come by the task that reads the connection, which began in that request."""
    seen = []

    async def test(client: Any) -> None:
        await client.jetstream().add_stream(name="FOREIGN", subjects=["foreign"])
        with tracing.span("startup"):
            receiving = await nats.connect(url)
            pulled = await receiving.jetstream().pull_subscribe("foreign", "durable")

            async def on_message(_: Any) -> None:
                seen.append(tracing.current_trace_id())

            await receiving.subscribe("foreign", cb=on_message)
            await receiving.flush()
        for _ in range(2):
            with pytest.raises(nats.errors.TimeoutError):
                await pulled.fetch(1, timeout=0.05)
            await receiving.flush()  # the server has said that nothing came, and the next fetch finds that
            assert tracing.current_trace_id() is None
        await client.publish("foreign", b"")
        await pulled.fetch(1)
        seen.append(tracing.current_trace_id())
        await receiving.close()

    tracing.instrument("asyncio-queues")
    with_client(url, test)
    assert len(seen) == 2 and captured.span("startup")["trace_id"] not in seen


def test_the_id_of_a_gateway_is_in_the_headers(url: str, captured: Captured) -> None:
    """A consumer in another language finds it there; the program's headers stay, and are not changed."""
    own = {"kind": "order", "Traceparent": "old"}
    found = []

    async def test(client: Any) -> None:
        subscription = await client.subscribe("orders.*")
        with from_gateway():
            await client.publish("orders.7", b"body", headers=own)
        found.append(await subscription.next_msg(TIMEOUT_S))

    with_client(url, test)
    [message] = found
    assert message.headers["X-Trace-ID"] == GATEWAY_TRACE_ID and message.headers["kind"] == "order"
    assert "Traceparent" not in message.headers and GATEWAY_TRACE_ID in message.headers["traceparent"]
    assert message.data == b"body" and own == {"kind": "order", "Traceparent": "old"}
    assert captured.span("send orders.7")["trace_id"] == GATEWAY_TRACE_ID


def test_with_peers_without_the_library(url: str, captured: Captured) -> None:
    """They read what we send, and what they send begins a trace."""
    bodies = []

    async def test(client: Any) -> None:
        subscription = await client.subscribe("old")
        with tracing.span("request"):
            await client.publish("old", b"ours")
        tracing.uninstrument()
        bodies.append((await subscription.next_msg(TIMEOUT_S)).data)
        await client.publish("old", b"theirs")
        tracing.instrument("nats")
        message = await subscription.next_msg(TIMEOUT_S)
        bodies.append(message.data)
        assert message.headers is None and tracing.current_trace_id() is not None

    with_client(url, test)
    assert bodies == [b"ours", b"theirs"]


def test_key_value_stores_are_no_messages(url: str, captured: Captured) -> None:
    """What the client says to the server for them, and hears of them, has no span."""

    async def test(client: Any) -> None:
        bucket = await client.jetstream().create_key_value(bucket="stock")
        watcher = await bucket.watchall()
        await bucket.put("lamp", b"7")
        assert (await bucket.get("lamp")).value == b"7"
        while (entry := await watcher.updates(TIMEOUT_S)) is None:
            pass
        assert entry.key == "lamp"
        await watcher.stop()

    with_client(url, test)
    assert [span["name"] for span in captured.spans] == []


def test_removal_puts_the_client_back() -> None:
    """Each method is the library's own again; excluded by name nothing was ever replaced."""
    places = [
        (Client, "publish"),
        (Client, "request"),
        (Client, "subscribe"),
        (Subscription, "next_msg"),
        (JetStreamContext.PullSubscription, "fetch"),
    ]
    before = [vars(place)[name] for place, name in places]
    with instrumented("nats"):
        assert all(vars(place)[name] is not old for (place, name), old in zip(places, before, strict=True))
    assert [vars(place)[name] for place, name in places] == before
    with instrumented("threads"):
        tracing.instrument(exclude=["nats"])
        assert [vars(place)[name] for place, name in places] == before
