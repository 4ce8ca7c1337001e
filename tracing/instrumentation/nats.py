"""NATS by nats-py, core and JetStream: headers out; callbacks, iterators, single gets and fetched batches in.

What the client itself says to the server (subjects that begin with `$`) is no message of the program's. An
answer to a request carries headers, and has no span: it goes to an inbox that nobody ever sees again.

Source: NATS client protocol, "HPUB"; JetStream wire API (acknowledgements go to `$JS.ACK…`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from importlib import import_module
from typing import Any, Final

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

SYSTEM: Final = "nats"
_SERVERS_OWN: Final = "$"
_CLIENTS_OWN: Final = ("nats.js.kv", "nats.js.object_store")  # modules whose callbacks only pass on

# Set while a batch is fetched, message by message, of a subscription of the client's own.
_fetching: Final[ContextVar[bool]] = ContextVar("tracing.nats.fetching", default=False)


def nats_patches() -> list[Handoff]:
    """JetStream sends by the core client, and subscribes by it."""
    client = import_module("nats.aio.client").Client
    subscriptions = import_module("nats.aio.subscription")
    jetstream = import_module("nats.js.client").JetStreamContext
    known_to_wait_for(jetstream.PushSubscription.next_msg)  # asks the core subscription, which delivers
    return [
        Patch(client, "publish", _publish),
        Patch(client, "request", _request),
        Patch(client, "subscribe", _subscribe),
        Patch(subscriptions.Subscription, "next_msg", _next_msg),
        Patch(subscriptions._SubscriptionMessageIterator, "__anext__", _anext),
        Patch(jetstream.PullSubscription, "fetch", _fetch),
    ]


# ---------------------------------------------------------------- producers


def _publish(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def publish(
        self: Any, subject: str, payload: bytes = b"", reply: str = "", headers: Any = None, **kwargs: Any
    ) -> Any:
        if not _can_be_told(self, subject) or _is_told(headers):
            return await original(self, subject, payload, reply, headers, **kwargs)
        if _is_inbox(self, subject):
            return await original(self, subject, payload, reply, _told(headers), **kwargs)
        with sending(SYSTEM, subject):
            return await original(self, subject, payload, reply, _told(headers), **kwargs)

    return publish


def _request(original: Callable[..., Any]) -> Callable[..., Any]:
    """The span takes as long as the answer: JetStream answers once a message is stored."""

    @wraps(original)
    async def request(
        self: Any,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,
        old_style: bool = False,
        headers: Any = None,
        **kwargs: Any,
    ) -> Any:
        # In the old style no headers are sent along; there the `publish` inside adds them.
        if old_style or not _can_be_told(self, subject) or _is_told(headers):
            return await original(self, subject, payload, timeout, old_style, headers, **kwargs)
        with sending(SYSTEM, subject):
            return await original(self, subject, payload, timeout, old_style, _told(headers), **kwargs)

    return request


def _can_be_told(client: Any, subject: Any) -> bool:
    """Whether a subject is the program's, and the server one that knows headers (2.2 and newer)."""
    if not is_wanted() or not isinstance(subject, str) or subject.startswith(_SERVERS_OWN):
        return False
    return bool(getattr(client, "_server_info", {}).get("headers"))


def _is_inbox(client: Any, subject: str) -> bool:
    prefix = getattr(client, "_inbox_prefix", b"_INBOX")
    return subject.startswith(f"{bytes(prefix).decode()}.")


def _is_told(headers: Any) -> bool:
    """Whether headers say the current trace already, because `request` or the program has put it in."""
    try:
        return bool(headers) and messages.texts().items() <= headers.items()
    except Exception as error:
        fuse.failed(error)
        return True


def _told(headers: Any) -> Any:
    try:
        # Without a trace the headers stay as they were: `None` sends a message of the plain kind.
        return messages.told_mapping(headers) or headers
    except Exception as error:
        fuse.failed(error)
        return headers


# ---------------------------------------------------------------- consumers


def _subscribe(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def subscribe(
        self: Any, subject: str, queue: str = "", cb: Any = None, *args: Any, **kw: Any
    ) -> Any:
        if cb is not None and not _is_clients_own(cb):
            cb = _callback(self, subject, cb)
        return await original(self, subject, queue, cb, *args, **kw)

    return subscribe


def _is_clients_own(callback: Any) -> bool:
    """Whether a callback is the client's, such as the one that takes the answers of all requests."""
    owner = type(getattr(callback, "__self__", None)).__module__
    return owner.startswith("nats.") or getattr(callback, "__module__", "") in _CLIENTS_OWN


def _callback(client: Any, subject: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    async def callback(message: Any) -> Any:
        with processing(SYSTEM, _destination(client, subject, message), message.headers):
            return await function(message)

    return callback


def _destination(client: Any, subscribed: str, message: Any) -> str:
    """What was subscribed to, which may be a pattern; an inbox that a stream delivers to says nothing."""
    return message.subject if _is_inbox(client, subscribed) else subscribed


def _took(subscription: Any, found: list[Any], source: Any) -> None:
    if found:
        destination = _destination(subscription._conn, subscription._subject, found[0])
        received(SYSTEM, destination, [message.headers for message in found], source)


def _next_msg(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def next_msg(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _fetching.get():
            return await original(self, *args, **kwargs)
        finished(self)
        message = await original(self, *args, **kwargs)
        _took(self, [message], self)
        return message

    known_to_wait_for(next_msg)
    return next_msg


def _anext(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def anext_(self: Any) -> Any:
        finished(self._sub)
        message = await original(self)
        _took(self._sub, [message], self._sub)
        return message

    return anext_


def _fetch(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def fetch(self: Any, *args: Any, **kwargs: Any) -> Any:
        finished(self)
        token = _fetching.set(True)
        try:
            found = await original(self, *args, **kwargs)
        finally:
            _fetching.reset(token)
            # It looks into its own queue first, which is filled by a task from where the client connected.
            finished(self._sub._pending_queue)
        _took(self._sub, found, self)
        return found

    known_to_wait_for(fetch)
    return fetch
