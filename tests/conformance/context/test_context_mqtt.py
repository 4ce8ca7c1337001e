"""MQTT beyond the matrix: properties, retained messages, version 3.1.1, failures, foreign peers."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
import paho.mqtt.client as mqtt
import pytest
from aiomqtt.client import MessagesIterator
from context_server import GATEWAY_TRACE_ID, broker_url, from_gateway, ids, instrumented, producers
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import tracing
from tracing.propagation import messages
from tracing.testing import Captured

TIMEOUT_S = 20
AT_LEAST_ONCE = 1
V3, V5 = mqtt.MQTTProtocolVersion.MQTTv311, mqtt.MQTTProtocolVersion.MQTTv5

Seen = queue.SimpleQueue  # of a message, and the trace and span that were current in the callback


@pytest.fixture(scope="module")
def url(need: Callable[[bool, str], None]) -> Iterator[str]:
    """A broker."""
    with broker_url("mosquitto", need) as found:
        yield found


@pytest.fixture
def captured() -> Iterator[Captured]:
    """With MQTT on."""
    with instrumented("mqtt") as lines:
        yield lines


@contextmanager
def connected(url: str, protocol: Any, *topics: str, callback: Any = None) -> Iterator[tuple[Any, Seen[Any]]]:
    """A client that has subscribed, and what its callback saw."""
    seen: Seen[Any] = queue.SimpleQueue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=protocol)
    ready = threading.Semaphore(0)
    client.on_connect = client.on_subscribe = lambda *_: ready.release()

    def on_message(_: Any, __: Any, message: Any) -> None:
        seen.put((message, tracing.current_trace_id(), tracing.current_span_id()))
        if callback is not None:
            callback()

    client.on_message = on_message
    parts = urlsplit(url)
    client.connect(str(parts.hostname), parts.port or 0)
    client.loop_start()
    assert ready.acquire(timeout=TIMEOUT_S)
    for topic in topics:
        client.subscribe(topic, AT_LEAST_ONCE)
        assert ready.acquire(timeout=TIMEOUT_S)
    yield client, seen
    client.disconnect()
    client.loop_stop()


def send(client: Any, topic: str, body: bytes = b"", **options: Any) -> None:
    """Publish, and wait until the broker has it."""
    client.publish(topic, body, AT_LEAST_ONCE, **options).wait_for_publish(TIMEOUT_S)


def test_the_programs_properties_stay(url: str, captured: Captured) -> None:
    """They arrive beside ours, and the object that holds them, used for many messages, is not changed."""
    own = Properties(PacketTypes.PUBLISH)
    own.ContentType = "text/plain"
    own.UserProperty = [("kind", "order"), ("TraceParent", "old")]
    with connected(url, V5, "orders/+") as (client, seen):
        with from_gateway():
            send(client, "orders/7", b"body", properties=own)
        message, trace_id, span_id = seen.get(timeout=TIMEOUT_S)
    arrived = dict(message.properties.UserProperty)
    assert arrived["kind"] == "order" and arrived["X-Trace-ID"] == GATEWAY_TRACE_ID == trace_id
    assert len(message.properties.UserProperty) == len(arrived) == 3 and "TraceParent" not in arrived
    assert message.payload == b"body" and message.properties.ContentType == "text/plain"
    assert own.UserProperty == [("kind", "order"), ("TraceParent", "old")]
    [sent] = producers(captured)
    consumer = captured.span("process orders/7")
    assert consumer["parent_span_id"] == sent["span_id"] and consumer["span_id"] == span_id


def test_a_retained_message_is_linked_to_its_sender(url: str, captured: Captured) -> None:
    """Whoever subscribes next week begins a trace; whoever was there gets it below the sender."""
    with connected(url, V5, "state") as (client, seen):
        with tracing.span("request"):
            send(client, "state", b"on", retain=True)
        _, at_once, _ = seen.get(timeout=TIMEOUT_S)
        with connected(url, V5, "state") as (_, seen_late):
            message, late, _ = seen_late.get(timeout=TIMEOUT_S)
    assert message.retain and message.payload == b"on"
    assert at_once == captured.span("request")["trace_id"] != late
    [linked] = [span for span in captured.spans if span["trace_id"] == late]
    assert ids(linked["links"]) == ids(producers(captured))


def test_a_retained_message_by_aiomqtt(url: str, captured: Captured) -> None:
    """The same by its iterator."""
    parts = urlsplit(url)

    async def consume() -> str | None:
        options: Any = {"port": parts.port, "protocol": aiomqtt.ProtocolVersion.V5}
        async with aiomqtt.Client(str(parts.hostname), **options) as client:
            with tracing.span("request"):
                await client.publish("kept", b"on", AT_LEAST_ONCE, retain=True)
            await client.subscribe("kept")
            await anext(client.messages)
            return tracing.current_trace_id()

    async def main() -> str | None:
        return await asyncio.wait_for(consume(), TIMEOUT_S)

    late = asyncio.run(main())
    assert late is not None and late != captured.span("request")["trace_id"]


def test_the_envelope_of_version_3(url: str, captured: Captured) -> None:
    """`publish` is left alone; the callback is below whoever made the envelope, and opens it for the body."""
    with connected(url, V3, "old") as (client, seen):
        with tracing.span("request"):
            here = tracing.current_trace_id()
            send(client, "old", messages.wrap(b"body"))
            send(client, "old", b"plain")
        enveloped, trace_id, _ = seen.get(timeout=TIMEOUT_S)
        plain, other, _ = seen.get(timeout=TIMEOUT_S)
    assert messages.unwrap(enveloped.payload)[0] == b"body" and trace_id == here
    assert plain.payload == b"plain" and other not in (None, here)
    assert producers(captured) == []


def test_a_callback_that_fails_says_so(url: str, captured: Captured) -> None:
    """The client passes the exception on to whoever runs its loop."""

    def callback() -> None:
        raise ValueError("no such order")

    with connected(url, V5, "failing", callback=callback) as (client, _):
        client.loop_stop()
        client.publish("failing")
        deadline = time.monotonic() + TIMEOUT_S
        with pytest.raises(ValueError, match="no such order"):
            while time.monotonic() < deadline:
                client.loop(0.1)
    assert captured.span("process failing")["status"]["message"] == "ValueError: no such order"


def test_with_peers_without_the_library(url: str, captured: Captured) -> None:
    """They read what we send, and what they send begins a trace; of the broker's own topics there is none."""
    with connected(url, V5, "peers", "$SYS/broker/version") as (client, seen):
        version, trace_id, _ = seen.get(timeout=TIMEOUT_S)
        assert version.topic == "$SYS/broker/version" and trace_id is None
        with tracing.span("request"):
            send(client, "peers", b"ours")
        _, ours, _ = seen.get(timeout=TIMEOUT_S)
        tracing.uninstrument()
        with connected(url, V5, "peers") as (_, seen_without):
            send(client, "peers", b"theirs")
            message, none, _ = seen_without.get(timeout=TIMEOUT_S)
        assert message.payload == b"theirs" and none is None
        assert not hasattr(message.properties, "UserProperty")
    assert ours == captured.span("request")["trace_id"]


def test_removal_puts_the_clients_back() -> None:
    """Each method is the library's own again; excluded by name nothing was ever replaced."""
    places = [(mqtt.Client, "publish"), (mqtt.Client, "_handle_on_message"), (MessagesIterator, "__anext__")]
    before = [vars(place)[name] for place, name in places]
    with instrumented("mqtt"):
        assert all(vars(place)[name] is not old for (place, name), old in zip(places, before, strict=True))
    assert [vars(place)[name] for place, name in places] == before
    with instrumented("threads"):
        tracing.instrument(exclude=["mqtt"])
        assert [vars(place)[name] for place, name in places] == before
