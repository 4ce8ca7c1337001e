"""The spans of messages, apart from the broker that carries them.

A message that is sent has a producer's span, whose ids travel in its headers. What is done with a message
has a consumer's span: a child of the producer's, current for as long as the consumer works on the message,
which in a loop is until it asks for the next one. Several messages that come at once have one span together,
in a trace of its own, with a link to each producer.

Source: OpenTelemetry semantic conventions 1.37, "Messaging spans".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar, Token
from functools import partial, wraps
from importlib import import_module
from types import TracebackType
from typing import Any, Final

from opentelemetry import baggage
from opentelemetry.context.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind

from tracing.context import NO_FIELDS, Fields, bound, current_span, incoming_fields
from tracing.handoff.deliveries import Delivery, current_delivery, deliver, end_deliveries_of, is_occupied
from tracing.health import Fuse
from tracing.propagation import messages
from tracing.scopes import SPAN_KEY, enter, leave
from tracing.sink import slot
from tracing.spans import get_tracer
from tracing.spans.scopes import SpanScope, fail

SCOPE: Final = "tracing.instrumentation"
LINKS_MAX: Final = 128  # of one batch's span; OpenTelemetry's limit of links, whatever the batch's size

fuse: Final = Fuse("tracing of messages")

# A callback may run in a thread or task that was started where another request was current.
_NO_BAGGAGE: Final = baggage.clear(Context())


# The span of a task that is being sent, while a task queue hands it to the library of its broker.
_carried: Final[ContextVar[Span | None]] = ContextVar("tracing.carried", default=None)
span_carried: Final = _carried.get


class carried:  # lower case, as it reads: `with carried(span):`
    """What is sent or received inside the block belongs to a task queue, which has traced it already."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> None:
        self._token: Token[Span | None] = _carried.set(self._span)

    def __exit__(self, *_: object) -> None:
        _carried.reset(self._token)


def untraced(original: Any) -> Any:
    """Make a method of a task queue, below which it uses its broker for what is nobody's message."""
    function = getattr(original, "__func__", original)

    @wraps(function)
    def method(*args: Any, **kwargs: Any) -> Any:
        with carried(INVALID_SPAN):
            return function(*args, **kwargs)

    return classmethod(method) if isinstance(original, classmethod) else method


def is_wanted() -> bool:
    """Whether messages are traced now."""
    return slot.active and not fuse.blown and span_carried() is None


def _attributes(system: str, destination: str, operation: str, kind: str) -> dict[str, Any]:
    told = {
        "messaging.system": system,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
    }
    if destination:
        told["messaging.destination.name"] = destination
    return told


def sending(
    system: str, destination: str, task: str = "", attributes: Mapping[str, Any] | None = None
) -> SpanScope:
    """The span of a message that is being sent, for a `with` block around it.

    Args:
        destination: empty where it is not known yet.
        task: that the message orders, which then names the span.
        attributes: of the span, in addition.
    """
    told = _attributes(system, destination, "send", "send") | dict(attributes or {})
    return SpanScope(get_tracer(SCOPE), f"send {task or destination}", None, SpanKind.PRODUCER, told)


# ---------------------------------------------------------------- consumers


def _started(
    system: str,
    destination: str,
    contexts: Sequence[Context],
    task: str = "",
    more: Mapping[str, Any] | None = None,
) -> tuple[Span, Context]:
    """Begin the span of what is done with messages; return it and the context that it is to be in."""
    attributes = _attributes(system, destination, "process", "process") | dict(more or {})
    parent, links = Context(), None
    if len(contexts) == 1:
        parent = contexts[0]
    else:
        attributes["messaging.batch.message_count"] = len(contexts)
        links = [Link(found) for found in map(_span_context, contexts) if found is not None][:LINKS_MAX]
    options = (f"process {task or destination}", parent, SpanKind.CONSUMER, attributes, links)
    span = get_tracer(SCOPE).start_span(*options)
    return span, Context({**parent, SPAN_KEY: span})


def _span_context(context: Context) -> Any:
    span = context.get(SPAN_KEY)
    return span.get_span_context() if isinstance(span, Span) else None


def _fields(context: Context) -> Fields:
    found = incoming_fields(context)
    return Fields(found) if found else NO_FIELDS


class processing:  # lower case, as it reads: `with processing(…):`
    """Work on one message inside its span, which is current in the block; for callbacks.

    An exception that leaves the block is recorded on the span and passes on; nothing of ours is raised.

    Args:
        headers: of the message.
        task: that the message orders, which then names the span.
        attributes: of the span, in addition.
    """

    __slots__ = ("_arguments", "_bound", "_headers", "_scope", "_span")

    def __init__(
        self,
        system: str,
        destination: str,
        headers: Any,
        task: str = "",
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self._arguments = (system, destination, task, attributes)
        self._headers = headers
        self._span: Span | None = None

    def __enter__(self) -> Span | None:
        """The span; `None` where nothing is traced now."""
        if not is_wanted():
            return None
        try:
            system, destination, task, attributes = self._arguments
            parent = messages.read(self._headers)
            self._span, context = _started(system, destination, [parent], task, attributes)
            self._bound = bound(**incoming_fields(parent)).__enter__()
            self._scope = enter({**_NO_BAGGAGE, **context})
        except Exception as error:
            fuse.failed(error)
            self._span = None
        return self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        span, self._span = self._span, None
        if span is None:
            return
        if error is not None:
            fail(span, error, record=True, set_status=True)
        leave(self._scope)
        self._bound.__exit__(kind, error, traceback)
        span.end()


class _MessageDelivery(Delivery):
    """Ends its span also where nobody asks for more: with the thread or the task that has got the message."""

    __slots__ = ()

    def __del__(self) -> None:
        span: Span | None = getattr(self, "span", None)
        if span is not None and span.is_recording():
            span.end()


def received(system: str, destination: str, headers: Sequence[Any], source: Any) -> None:
    """Messages have come to a consumer's loop: until `finished`, what it does belongs to them.

    A consumer with an un-ended span of its own keeps that, and gets links to the producers. Never raises.

    Args:
        headers: of each message.
        source: what it was asked of, such as the consumer.
    """
    if not headers or not is_wanted():
        return
    try:
        deliver(partial(_receive, system, destination, [messages.read(one) for one in headers], source))
    except Exception as error:
        fuse.failed(error)


def _receive(system: str, destination: str, contexts: Sequence[Context], source: Any) -> None:
    if is_occupied():
        own = current_span()
        for found in map(_span_context, contexts[:LINKS_MAX]):
            if own is not None and found is not None:
                own.add_link(found)
        return
    span, context = _started(system, destination, contexts)
    fields = _fields(contexts[0]) if len(contexts) == 1 else NO_FIELDS
    _MessageDelivery(context, fields, source, span)


def finished(source: Any) -> None:
    """A source is asked for more, or ends: its consumer is done with what it got last. Never raises."""
    try:
        if current_delivery() is not None:
            end_deliveries_of(source)
    except Exception as error:
        fuse.failed(error)


def known_to_wait_for(coroutine: Any) -> None:
    """Let `asyncio.wait_for(source.get(), …)` deliver where it was called, not in a task of its own.

    Args:
        coroutine: the function that gets messages.
    """
    import_module("tracing.handoff.asyncio_queues").getters.add(coroutine.__code__)


def looped(items: Iterator[Any], source: Any, receive: Callable[[Any], None]) -> Iterator[Any]:
    """Go through what a consumer's generator gives; the body of the loop belongs to each message in turn.

    Args:
        source: as `receive` names it.
        receive: tells `received` about an item.
    """
    try:
        while True:
            finished(source)
            try:
                item = next(items)
            except StopIteration:
                return
            receive(item)
            yield item
    finally:
        finished(source)
        close = getattr(items, "close", None)
        if close is not None:
            close()
