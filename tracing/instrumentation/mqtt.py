"""MQTT by paho-mqtt, and by aiomqtt on top of it: the trace is in user properties, which version 5 has.

Version 3.1.1 has no place beside the body. There `publish` is left alone; programs at both ends that want the
trace put the body into the envelope of `tracing.propagation.messages`:

```python
client.publish("orders", messages.wrap(body))
body, _ = messages.unwrap(message.payload)  # in the callback, which is below the sender's span by then
```
A message that the broker retained may be older than the day: it is linked to its sender, and begins a trace.

Source: MQTT 5.0, sections 3.3.2.3.7 "User Property" and 3.3.1.3 "RETAIN".
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, Final

from opentelemetry.trace import Span

from tracing.context import current_span
from tracing.handoff import Handoff, Patch
from tracing.instrumentation.messaging import (
    finished,
    fuse,
    is_wanted,
    known_to_wait_for,
    processing,
    received,
    sending,
)
from tracing.propagation import messages
from tracing.scopes import SPAN_KEY

SYSTEM: Final = "mqtt"
_VERSION_5: Final = 5
_BROKERS_OWN: Final = "$"  # topics such as $SYS/broker/load


def paho_patches() -> list[Handoff]:
    """Publishing, and the one place from which all callbacks for messages are called."""
    client = import_module("paho.mqtt.client").Client
    return [Patch(client, "publish", _publish), Patch(client, "_handle_on_message", _handle)]


def aiomqtt_patches() -> list[Handoff]:
    """The iterator over messages; sending is paho's."""
    return [Patch(import_module("aiomqtt.client").MessagesIterator, "__anext__", _anext)]


# ---------------------------------------------------------------- producers


def _publish(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def publish(
        self: Any,
        topic: str,
        payload: Any = None,
        qos: int = 0,
        retain: bool = False,
        properties: Any = None,
    ) -> Any:
        if not is_wanted() or self._protocol != _VERSION_5 or not isinstance(topic, str):
            return original(self, topic, payload, qos, retain, properties)
        with sending(SYSTEM, topic):
            return original(self, topic, payload, qos, retain, _told(properties))

    return publish


def _told(properties: Any) -> Any:
    """A copy: programs give the same properties to many messages."""
    try:
        if properties is None:
            kinds = import_module("paho.mqtt.packettypes").PacketTypes
            told = import_module("paho.mqtt.properties").Properties(kinds.PUBLISH)
        else:
            told = copy.copy(properties)
        # Past its `__setattr__`, which adds to the list that the copy shares with the original.
        told.__dict__["UserProperty"] = messages.told_text_pairs(_user_properties(properties))
        return told
    except Exception as error:
        fuse.failed(error)
        return properties


# ---------------------------------------------------------------- consumers


def _user_properties(properties: Any) -> list[Any]:
    return getattr(properties, "UserProperty", None) or []


def _headers(message: Any) -> Any:
    found = _user_properties(message.properties)
    return found or messages.unwrap(bytes(message.payload or b""))[1]


def _handle(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def handle_on_message(self: Any, message: Any) -> Any:
        headers = _wanted_headers(self, message)
        if headers is None:
            return original(self, message)
        with processing(SYSTEM, message.topic, {} if message.retain else headers) as span:
            if message.retain:
                _link(span, headers)
            return original(self, message)

    return handle_on_message


def _wanted_headers(client: Any, message: Any) -> Any:
    """The headers of a message; `None`: it is no span of ours."""
    try:
        # aiomqtt's callback only passes on; its iterator says when a message is worked on.
        passes_on = type(getattr(client.on_message, "__self__", None)).__module__.startswith("aiomqtt.")
        if passes_on or not is_wanted() or message.topic.startswith(_BROKERS_OWN):
            return None
        return _headers(message)
    except Exception as error:
        fuse.failed(error)
        return None


def _link(span: Span | None, headers: Any) -> None:
    sender = messages.read(headers).get(SPAN_KEY)
    if span is not None and isinstance(sender, Span):
        span.add_link(sender.get_span_context())


def _anext(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def anext_(self: Any) -> Any:
        finished(self._client)
        message = await original(self)
        _took(self._client, message)
        return message

    known_to_wait_for(anext_)
    return anext_


def _took(client: Any, message: Any) -> None:
    try:
        topic = message.topic.value
        if not is_wanted() or topic.startswith(_BROKERS_OWN):
            return
        headers = _headers(message)
        received(SYSTEM, topic, [{} if message.retain else headers], client)
        if message.retain:
            _link(current_span(), headers)
    except Exception as error:
        fuse.failed(error)
