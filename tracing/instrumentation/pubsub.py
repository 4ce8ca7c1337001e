"""Google Pub/Sub by google-cloud-pubsub: attributes out; callbacks, and what was pulled by hand, in.

A message of a peer that lets Google's client trace (`enable_open_telemetry_tracing`) is understood, too.

Source: Pub/Sub documentation, "Quotas and limits": 100 attributes, values of 1 024 bytes, no name that begins
with `goog`, which is for the client's own `googclient_traceparent`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, Final

from tracing.handoff import Handoff, Patch
from tracing.health import count
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

SYSTEM: Final = "gcp_pubsub"
ATTRIBUTES_MAX: Final = 100  # of one message
VALUE_BYTES_MAX: Final = 1024
_CLIENTS_OWN: Final = "googclient_"


def pubsub_patches() -> list[Handoff]:
    """The clients that programs use, and under them those that pull."""
    return [
        Patch(import_module("google.cloud.pubsub_v1.publisher.client").Client, "publish", _publish),
        Patch(import_module("google.cloud.pubsub_v1.subscriber.client").Client, "subscribe", _subscribe),
        Patch(import_module("google.pubsub_v1.services.subscriber.client").SubscriberClient, "pull", _pull),
        Patch(
            import_module("google.pubsub_v1.services.subscriber.async_client").SubscriberAsyncClient,
            "pull",
            _pull_async,
        ),
    ]


def _name(path: Any) -> str:
    """`orders` of `projects/shop/topics/orders`."""
    return str(path or "").rpartition("/")[2]


# ---------------------------------------------------------------- producers


def _publish(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def publish(self: Any, topic: str, *args: Any, **kwargs: Any) -> Any:
        if not is_wanted():
            return original(self, topic, *args, **kwargs)
        with sending(SYSTEM, _name(topic)):
            return original(self, topic, *args, **_told(kwargs))

    return publish


_OPTIONS: Final = frozenset({"data", "ordering_key", "retry", "timeout"})  # arguments that are no attributes


def _told(kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        texts = messages.texts()
        lowered = {name.lower() for name in texts}
        kept = {name: value for name, value in kwargs.items() if name.lower() not in lowered}
        room = ATTRIBUTES_MAX - sum(name not in _OPTIONS for name in kept)
        fitting = [name for name in messages.names() if len(texts.get(name, "").encode()) <= VALUE_BYTES_MAX]
        ours = [name for name in fitting if name in texts][: max(0, room)]
        if len(ours) < len(texts):
            count("message_attributes_full")
        return {**kept, **{name: texts[name] for name in ours}}
    except Exception as error:
        fuse.failed(error)
        return kwargs


# ---------------------------------------------------------------- consumers


def _headers(attributes: Any) -> dict[str, str]:
    found = {str(name): str(value) for name, value in attributes.items()}
    if "traceparent" not in found:
        theirs = [name for name in found if name.startswith(_CLIENTS_OWN)]
        found |= {name.removeprefix(_CLIENTS_OWN): found[name] for name in theirs}
    return found


def _subscribe(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def subscribe(self: Any, subscription: str, callback: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        return original(self, subscription, _callback(_name(subscription), callback), *args, **kw)

    return subscribe


def _callback(subscription: str, function: Callable[..., Any]) -> Callable[..., Any]:
    # Not by `wraps`: a callback may be any object that can be called.
    def callback(message: Any) -> Any:
        if not is_wanted():
            return function(message)
        with processing(SYSTEM, subscription, _headers(message.attributes)):
            return function(message)

    return callback


def _pull(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def pull(self: Any, request: Any = None, **kwargs: Any) -> Any:
        finished(self)
        response = original(self, request, **kwargs)
        _took(self, request, kwargs, response)
        return response

    return pull


def _pull_async(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def pull(self: Any, request: Any = None, **kwargs: Any) -> Any:
        finished(self)
        response = await original(self, request, **kwargs)
        _took(self, request, kwargs, response)
        return response

    known_to_wait_for(pull)
    return pull


def _took(client: Any, request: Any, kwargs: dict[str, Any], response: Any) -> None:
    if not is_wanted():
        return
    try:
        asked = request.get("subscription") if isinstance(request, dict) else request and request.subscription
        headers = [_headers(one.message.attributes) for one in response.received_messages]
        received(SYSTEM, _name(asked or kwargs.get("subscription")), headers, client)
    except Exception as error:
        fuse.failed(error)
