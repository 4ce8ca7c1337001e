"""What a queue inside the process does with contexts: an item carries that of whoever put it there.

The rules, so that a long-lived worker belongs to the item that it works on and to nothing else:

- An item's context becomes current only when the getter has no un-ended span of its own. What a thread or a
  task began with is not its own.
- It ends with the next `get`, before that waits; with `task_done` of the same queue; or with the thread.
- Never for a LIFO queue: those are pools of connections, and a connection must not carry the ids of the
  request that used it before. `LifoQueue`, and any subclass that stores items in its own way, is left alone;
  taking a connection out of one ends nothing.
- What the queue holds, and in which order, is as it was: contexts are kept beside the items, not around them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Final

from opentelemetry.context.context import Context
from opentelemetry.trace import Span

from tracing.context import NO_FIELDS, Snapshot, fields_variable, get_fields
from tracing.handoff.patch import Patches
from tracing.health import Fuse
from tracing.scopes import SPAN_KEY, ScopedContext, current_context, entered_here, get_context, set_context

fuse: Final = Fuse("hand-off through queues")

_BESIDE: Final = "_backtrail_contexts"  # in a queue's __dict__: the contexts of its items
_SPARE_MAX: Final = 64  # contexts without an item, of a queue whose items were taken out by other means


_NOTHING: Final = Snapshot.of(Context(), NO_FIELDS)


class _Contexts:
    """The contexts of one queue's items, found by the identity of the item.

    All of it happens where the queue itself is changed: under its lock, or on its event loop. Items are
    held, so that no other object can get the identity of one that left in a way of its own.
    """

    __slots__ = ("_by_id", "_count")

    def __init__(self, stored: Iterable[Any]) -> None:
        self._by_id: dict[int, list[tuple[Any, Snapshot]]] = {}
        self._count = 0
        for item in stored:
            self._add(item, _NOTHING)

    def put(self, item: Any, snapshot: Snapshot, stored: Any) -> None:
        """Keep the context of an item that comes to those which are `stored`; an empty one, too.

        One object may be there several times, such as `None`, and each time has its own.
        """
        size = len(stored)
        if not size:
            self._by_id.clear()
            self._count = 0
        elif self._count > 2 * size + _SPARE_MAX:
            self._prune(stored)
        self._add(item, snapshot)

    def _add(self, item: Any, snapshot: Snapshot) -> None:
        self._by_id.setdefault(id(item), []).append((item, snapshot))
        self._count += 1

    def take(self, item: Any) -> Snapshot | None:
        """The context of an item that leaves; of one that is there several times, the oldest."""
        found = self._by_id.get(id(item))
        if found is None:
            return None
        snapshot = found.pop(0)[1]
        self._count -= 1
        if not found:
            del self._by_id[id(item)]
        return snapshot

    def _prune(self, stored: Any) -> None:
        there = set(map(id, stored))
        self._by_id = {key: found for key, found in self._by_id.items() if key in there}
        self._count = sum(map(len, self._by_id.values()))


class Delivery:
    """An item's context while it is current, and what to go back to.

    Attributes:
        source: where the item comes from.
        outer: the delivery that was current before, and is again afterwards.
        span: that ends with it: a message's; an item of a queue has none.
        context: OpenTelemetry's, as long as it is current.
    """

    __slots__ = ("context", "fields_before", "outer", "previous", "source", "span")

    def __init__(self, snapshot: Snapshot, source: Any, span: Span | None = None) -> None:
        self.source = source
        self.span = span
        self.outer = delivered.get()
        self.previous, self.fields_before = current_context(), get_fields()
        # Of its own kind, so that it is told from what the getter makes current by itself.
        self.context = Context(snapshot.context)
        set_context(self.context)
        fields_variable.set(snapshot.fields)
        delivered.set(self)

    def end(self) -> bool:
        """Go back, unless something was made current since; then whoever did that goes back to us.

        Returns:
            Whether it has ended.
        """
        if get_context() is not self.context:
            return False
        if self.span is not None:
            self.span.end()
        delivered.set(self.outer)
        set_context(self.previous)
        fields_variable.set(self.fields_before)
        return True


delivered: Final[ContextVar[Delivery | None]] = ContextVar("tracing.delivery", default=None)
current_delivery: Final = delivered.get

# Before Python 3.12, `asyncio.wait_for` gets the item in a task of its own; here that leaves the delivery.
left_here: Final[ContextVar[list[Callable[[], None]] | None]] = ContextVar("tracing.left", default=None)


def is_occupied() -> bool:
    """Whether the getter has an un-ended span that it made current itself."""
    context = current_context()
    span = context.get(SPAN_KEY)
    if not isinstance(span, Span) or not span.get_span_context().is_valid:
        return False
    delivery = current_delivery()
    if delivery is not None and context is delivery.context:
        return delivery.span is not None and _is_open(delivery.span)
    while isinstance(context, ScopedContext) and context.previous.get(SPAN_KEY) is span:
        context = context.previous  # a scope inside the span's, such as of baggage
    # Whether somebody else's scope was entered here cannot be found out: it is taken for the getter's own.
    if isinstance(context, ScopedContext) and not entered_here(context):
        return False
    return _is_open(span)


def _is_open(span: Span) -> bool:
    return getattr(span, "end_time", None) is None


def deliver(make: Callable[[], None]) -> None:
    """Call what delivers an item's context: here, or where somebody waits for the task that got the item."""
    left = left_here.get()
    if left is not None:
        left.append(make)
    else:
        make()


def _delivery(snapshot: Snapshot, source: Any) -> None:
    if not is_occupied():
        Delivery(snapshot, source)


def end_delivery() -> None:
    """End the context of the item that was got last from a queue, if there is one."""
    delivery = current_delivery()
    if delivery is not None and delivery.span is None:
        delivery.end()


def end_deliveries_of(source: Any) -> None:
    """End what was delivered by a source that is asked for more, and whatever was delivered on top of it."""
    wanted = current_delivery()
    while wanted is not None and wanted.source is not source:
        wanted = wanted.outer
    while wanted is not None and (delivery := current_delivery()) is not None:
        if not delivery.end() or delivery is wanted:
            return


# ---------------------------------------------------------------- where items go in and out


def carrying_put(
    handoff: Callable[[], Patches], stored: Callable[[Any], Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a `_put` that notes the context of the item.

    Args:
        handoff: says whether it is on.
        stored: what holds the items of a queue.
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def put(self: Any, item: Any) -> None:
            if handoff().on and not fuse.blown:
                try:
                    snapshot = Snapshot()
                    contexts = self.__dict__.get(_BESIDE)
                    if contexts is not None:
                        contexts.put(item, snapshot, stored(self))
                    elif not snapshot.empty:
                        contexts = self.__dict__[_BESIDE] = _Contexts(stored(self))
                        contexts.put(item, snapshot, stored(self))
                except Exception as error:
                    fuse.failed(error)
            original(self, item)

        return put

    return make


def delivering_get(handoff: Callable[[], Patches]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a `_get` that delivers the context of the item."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def get(self: Any) -> Any:
            item = original(self)
            contexts = self.__dict__.get(_BESIDE)
            if contexts is not None and handoff().on and not fuse.blown:
                try:
                    snapshot = contexts.take(item)
                    if snapshot is not None and not snapshot.empty:
                        deliver(partial(_delivery, snapshot, self))
                except Exception as error:
                    fuse.failed(error)
            return item

        return get

    return make


def ending_task_done(original: Callable[..., Any]) -> Callable[..., Any]:
    """Make a `task_done` that ends what its queue delivered."""

    @wraps(original)
    def task_done(self: Any) -> None:
        delivery = current_delivery()
        if delivery is not None and delivery.source is self:
            delivery.end()
        original(self)

    return task_done
