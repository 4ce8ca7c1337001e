"""Google Pub/Sub beyond the matrix: batches, limits, a peer that Google's client traces, foreign peers."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from context_server import GATEWAY_TRACE_ID, broker_url, from_gateway, ids, instrumented, producers
from google.cloud import pubsub_v1
from google.pubsub_v1 import SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import (
    SubscriberGrpcAsyncIOTransport,
    SubscriberGrpcTransport,
)

import tracing
from tracing import health
from tracing.testing import Captured

TIMEOUT_S = 20
TOPIC, SUBSCRIPTION = "projects/p/topics/{}", "projects/p/subscriptions/{}"


@pytest.fixture(scope="module")
def url(need: Callable[[bool, str], None]) -> Iterator[str]:
    """A service."""
    with broker_url("pubsub", need) as found:
        yield found


@pytest.fixture
def captured() -> Iterator[Captured]:
    """With Pub/Sub on."""
    with instrumented("google-pubsub") as lines:
        yield lines


class Pair:
    """A topic with one subscription, and a client for each."""

    def __init__(self, url: str, name: str) -> None:
        self.topic, self.subscription = TOPIC.format(name), SUBSCRIPTION.format(name)
        transport = PublisherGrpcTransport(channel=grpc.insecure_channel(url))
        self.publisher = pubsub_v1.PublisherClient(transport=transport)
        self.subscriber = pubsub_v1.SubscriberClient(
            transport=SubscriberGrpcTransport(channel=grpc.insecure_channel(url))
        )
        self.publisher.create_topic(name=self.topic)
        self.subscriber.create_subscription(name=self.subscription, topic=self.topic)

    def publish(self, data: bytes, **attributes: str) -> None:
        """Send, and wait until it is there."""
        self.publisher.publish(self.topic, data, **attributes).result(TIMEOUT_S)

    def pull(self, count: int) -> list[Any]:
        """At most so many messages, by the request object that both clients take."""
        request = {"subscription": self.subscription, "max_messages": count}
        found = list(self.subscriber.pull(request, timeout=TIMEOUT_S).received_messages)
        keys = [one.ack_id for one in found]
        self.subscriber.acknowledge(subscription=self.subscription, ack_ids=keys)
        return [one.message for one in found]

    @contextmanager
    def pulling(self, callback: Callable[[Any], None]) -> Iterator[None]:
        """The client's own way, by callback."""
        future = self.subscriber.subscribe(self.subscription, callback)
        yield
        future.cancel()
        future.result(TIMEOUT_S)


@pytest.fixture
def pair(url: str, request: pytest.FixtureRequest) -> Pair:
    """Of the test's own."""
    return Pair(url, request.node.name)


def test_a_batch_has_links_to_every_producer(pair: Pair, captured: Captured) -> None:
    """By the synchronous pull; the next one ends it."""
    for number in range(3):
        with tracing.span(f"request {number}"):
            pair.publish(b"")
    assert len(pair.pull(10)) == 3
    inside = tracing.current_span_id()
    pair.publish(b"next")
    [message] = pair.pull(10)
    assert message.data == b"next" and tracing.current_span_id() not in (None, inside)
    name = pair.subscription.rpartition("/")[2]
    assert ids(captured.span(f"process {name}")["links"]) == ids(producers(captured)[:3])
    assert producers(captured)[0]["attributes"]["messaging.system"] == "gcp_pubsub"


def test_the_async_client_pulls(pair: Pair, url: str, captured: Captured) -> None:
    """In the message's context, of which there may be one."""

    async def test() -> str | None:
        transport = SubscriberGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(url))
        async with SubscriberAsyncClient(transport=transport) as client:
            await client.pull(subscription=pair.subscription, max_messages=1, timeout=TIMEOUT_S)
            return tracing.current_trace_id()

    with tracing.span("request"):
        pair.publish(b"")
    assert asyncio.run(test()) == captured.span("request")["trace_id"]


def test_a_callback_that_fails_says_so(pair: Pair, captured: Captured) -> None:
    """The client takes the message back, and whoever gets it next is in the same trace."""
    seen: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def fails(_: Any) -> None:
        seen.put(tracing.current_trace_id())
        raise ValueError("no such order")

    with tracing.span("request"):
        pair.publish(b"")
    future = pair.subscriber.subscribe(pair.subscription, fails)
    with pytest.raises(ValueError, match="no such order"):
        future.result(TIMEOUT_S)
    with pair.pulling(lambda message: (seen.put(tracing.current_trace_id()), message.ack())):
        first, second = seen.get(timeout=TIMEOUT_S), seen.get(timeout=TIMEOUT_S)
    assert first == second == captured.span("request")["trace_id"]
    failed, *_ = [span for span in captured.spans if span["span_kind"] == "CONSUMER"]  # however often it came
    assert failed["status"]["message"] == "ValueError: no such order"


def test_what_does_not_fit_is_left_out_and_counted(pair: Pair, captured: Captured) -> None:
    """A long baggage, or a message that has as many attributes as there may be."""
    before = health.counts["message_attributes_full"]
    with tracing.extracted({"baggage": f"long={'x' * 1100}"}), tracing.span("request"):
        pair.publish(b"", kind="order")
    [message] = pair.pull(1)
    assert set(message.attributes) == {"kind", "traceparent", "X-Trace-ID"}
    with tracing.span("another"):
        pair.publish(b"", **{f"a{number}": "x" for number in range(99)})
        pair.publish(b"", **{f"a{number}": "x" for number in range(100)})
    assert [len(message.attributes) for message in pair.pull(1) + pair.pull(1)] == [100, 100]
    assert health.counts["message_attributes_full"] == before + 3


def test_a_peer_that_googles_client_traces(pair: Pair, captured: Captured) -> None:
    """Its header has a name of its own."""
    tracing.uninstrument()
    pair.publish(b"", googclient_traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    tracing.instrument("google-pubsub")
    pair.pull(1)
    assert tracing.current_trace_id() == "a" * 32


def test_the_id_of_a_gateway_is_in_the_attributes(pair: Pair, captured: Captured) -> None:
    """A consumer in another language finds it there, and one without the library reads the body."""
    with from_gateway():
        pair.publish(b"body", traceparent="old", kind="order")
    tracing.uninstrument()
    [message] = pair.pull(1)
    assert message.data == b"body" and message.attributes["kind"] == "order"
    assert message.attributes["X-Trace-ID"] == GATEWAY_TRACE_ID
    assert GATEWAY_TRACE_ID in message.attributes["traceparent"]


def test_a_message_of_a_peer_without_the_library_begins_a_trace(pair: Pair, captured: Captured) -> None:
    """Also when the callback's threads began where a request was."""
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def callback(message: Any) -> None:
        seen.put((message.data, tracing.current_trace_id()))
        message.ack()

    tracing.uninstrument()
    pair.publish(b"theirs")
    tracing.instrument("google-pubsub", "threads", "executors")
    with tracing.span("startup"):
        pulling = pair.pulling(callback)
        pulling.__enter__()
    data, trace_id = seen.get(timeout=TIMEOUT_S)
    pulling.__exit__(None, None, None)
    assert data == b"theirs" and trace_id not in (None, captured.span("startup")["trace_id"])


def test_removal_puts_the_clients_back() -> None:
    """Each method is the library's own again; excluded by name nothing was ever replaced."""
    places = [
        (pubsub_v1.publisher.client.Client, "publish"),
        (pubsub_v1.subscriber.client.Client, "subscribe"),
        (SubscriberClient, "pull"),
        (SubscriberAsyncClient, "pull"),
    ]
    before = [vars(place)[name] for place, name in places]
    with instrumented("google-pubsub"):
        assert all(vars(place)[name] is not old for (place, name), old in zip(places, before, strict=True))
    assert [vars(place)[name] for place, name in places] == before
    with instrumented("threads"):
        tracing.instrument(exclude=["google-pubsub"])
        assert [vars(place)[name] for place, name in places] == before
