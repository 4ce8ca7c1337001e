"""Google Pub/Sub: the client's callbacks, and messages that are pulled, from a service in memory."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import grpc
from context_hop import DEADLINE_S, Errand, Hop, Wait, Way, Work, workers
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

BROKER = "pubsub"
MESSAGES = 300
# The other library's instrumentation of Pub/Sub is inside the client.
THEIRS = sys.argv[1:2] == ["otel"]

Errands = dict[str, Errand]


def _publisher() -> Any:
    channel = grpc.insecure_channel(os.environ["BROKER_URL"])
    options = pubsub_v1.types.PublisherOptions(enable_open_telemetry_tracing=THEIRS)
    return pubsub_v1.PublisherClient(
        publisher_options=options, transport=PublisherGrpcTransport(channel=channel)
    )


def _subscriber() -> Any:
    channel = grpc.insecure_channel(os.environ["BROKER_URL"])
    options = pubsub_v1.types.SubscriberOptions(enable_open_telemetry_tracing=THEIRS)
    return pubsub_v1.SubscriberClient(
        subscriber_options=options, transport=SubscriberGrpcTransport(channel=channel)
    )


def _hop(name: str, consuming: Callable[[str, Errands], Any]) -> Any:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        topic, subscription = f"projects/p/topics/{name}", f"projects/p/subscriptions/{name}"
        publisher = _publisher()
        publisher.create_topic(name=topic)
        _subscriber().create_subscription(name=subscription, topic=topic)
        errands: Errands = {}

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = Errand(work, tag)
            publisher.publish(topic, tag.encode(), kind="order")
            return errand.wait

        with ExitStack() as stack:
            stack.enter_context(consuming(subscription, errands))
            yield Way(go)
        publisher.stop()

    return opened


@contextmanager
def _by_callback(subscription: str, errands: Errands) -> Iterator[None]:
    def on_message(message: Any) -> None:
        errands[message.data.decode()].do()
        message.ack()

    pulling = _subscriber().subscribe(subscription, on_message)
    yield
    pulling.cancel()
    pulling.result(DEADLINE_S)


@contextmanager
def _by_pull(subscription: str, errands: Errands) -> Iterator[None]:
    ended = threading.Event()

    def consume() -> None:
        client = _subscriber()
        while not ended.is_set():
            answer = client.pull(subscription=subscription, max_messages=1, timeout=DEADLINE_S)
            for one in answer.received_messages:
                client.acknowledge(subscription=subscription, ack_ids=[one.ack_id])
                if one.message.data == b"stop":
                    return
                errands[one.message.data.decode()].do()

    def stop() -> None:
        _publisher().publish(subscription.replace("subscriptions", "topics"), b"stop").result(DEADLINE_S)

    with workers(1, consume, stop):
        yield


HOPS = [
    Hop("Google Pub/Sub, callback", _hop("called", _by_callback), contexts=MESSAGES),
    Hop("Google Pub/Sub, pull", _hop("pulled", _by_pull), contexts=MESSAGES),
]
