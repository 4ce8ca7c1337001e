"""MQTT: paho-mqtt's callbacks with version 5, aiomqtt's iterator, and version 3.1.1 with an envelope."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
import paho.mqtt.client as mqtt
from context_hop import DEADLINE_S, AsyncErrand, Errand, Hop, Wait, Way, Work

from tracing.doctor.hop import Consumer
from tracing.propagation import messages

BROKER = "mosquitto"
OURS = sys.argv[1:2] == ["ours"]  # the other library has nothing of the kind
AT_LEAST_ONCE = 1
MANY = 100_000  # messages under way; by default a client stops at twenty and queues the rest


def _client(protocol: mqtt.MQTTProtocolVersion) -> mqtt.Client:
    """Connected, its loop in a thread of its own."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=protocol)
    up = threading.Event()
    client.on_connect = lambda *_: up.set()
    parts = urlsplit(os.environ["BROKER_URL"])
    client.connect(str(parts.hostname), parts.port or 0)
    client.loop_start()
    assert up.wait(DEADLINE_S)
    return client


def _paho(topic: str, protocol: mqtt.MQTTProtocolVersion, *, filtered: bool = False) -> Any:
    """One client subscribes, another publishes.

    Args:
        protocol: before version 5 the body is in our envelope.
        filtered: the callback is one for this topic.
    """
    enveloped = protocol is not mqtt.MQTTProtocolVersion.MQTTv5

    @asynccontextmanager
    async def opened() -> AsyncIterator[Way]:
        errands: dict[str, Errand] = {}
        receiver, sender = _client(protocol), _client(protocol)
        subscribed = threading.Event()
        receiver.on_subscribe = lambda *_: subscribed.set()

        def on_message(_: Any, __: Any, message: mqtt.MQTTMessage) -> None:
            body, _headers = messages.unwrap(message.payload)
            errands[body.decode()].do()

        if filtered:
            receiver.message_callback_add(topic, on_message)
        else:
            receiver.on_message = on_message
        receiver.subscribe(topic, AT_LEAST_ONCE)
        assert subscribed.wait(DEADLINE_S)

        def go(work: Work, tag: str) -> Wait:
            errand = errands[tag] = Errand(work, tag)
            body = tag.encode()
            sender.publish(topic, messages.wrap(body) if enveloped else body, AT_LEAST_ONCE)
            return errand.wait

        yield Way(go)
        for client in (receiver, sender):
            client.disconnect()
            client.loop_stop()

    return opened


@asynccontextmanager
async def _iterator() -> AsyncIterator[Way]:
    errands: dict[str, AsyncErrand] = {}
    senders: set[asyncio.Task[Any]] = set()
    parts = urlsplit(os.environ["BROKER_URL"])
    options: dict[str, Any] = {"port": parts.port, "protocol": aiomqtt.ProtocolVersion.V5}
    options["max_inflight_messages"] = options["max_queued_outgoing_messages"] = MANY

    async def consume(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            await errands[message.payload.decode()].perform()

    async with (
        aiomqtt.Client(str(parts.hostname), **options) as receiver,
        aiomqtt.Client(str(parts.hostname), **options) as sender,
    ):
        await receiver.subscribe("iterated", AT_LEAST_ONCE)
        consumer = Consumer(lambda: consume(receiver))

        def send(errand: AsyncErrand) -> None:
            errands[errand.tag] = errand
            task = asyncio.ensure_future(sender.publish("iterated", errand.tag.encode(), AT_LEAST_ONCE))
            senders.add(task)
            task.add_done_callback(senders.discard)

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
        await asyncio.gather(*senders, return_exceptions=True)


HOPS = [
    Hop("MQTT 5, paho-mqtt on_message", _paho("all", mqtt.MQTTProtocolVersion.MQTTv5)),
    Hop(
        "MQTT 5, paho-mqtt callback of a topic", _paho("one", mqtt.MQTTProtocolVersion.MQTTv5, filtered=True)
    ),
    Hop("MQTT 5, aiomqtt iterator", _iterator, asyncio.run),
    *([Hop("MQTT 3.1.1, our envelope", _paho("old", mqtt.MQTTProtocolVersion.MQTTv311))] if OURS else []),
]
