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

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial, wraps
from typing import Any, Final

from opentelemetry.context.context import Context
from opentelemetry.trace import Span

from tracing.context import NO_FIELDS, Fields, fields_variable, get_fields
from tracing.handoff.patch import Patches, without_our_frame
from tracing.health import Fuse
from tracing.scopes import SPAN_KEY, ScopedContext, current_context, entered_here, get_context, set_context
from tracing.spans import Span as LightSpan

fuse: Final = Fuse("hand-off through queues")

BESIDE: Final = "_backtrail_contexts"
_NOTHING: Final = Context()
_SPARE_MAX: Final = 64  # contexts without an item, of a queue whose items were taken out by other means


# In a queue's __dict__: of each item, by its identity, the entry that says its context; several entries in a
# list for one object that is there several times. The item is held, so that no other gets its identity.
Entry = tuple[Any, Context, Fields]


def note(queue: Any, stored: Any, item: Any, context: Context, fields: Fields) -> None:
    """Keep the context of an item, an empty one too, that comes to those which are `stored`.

    All of it happens where the queue itself is changed: under its lock, or on its event loop.
    """
    entries = queue.__dict__.get(BESIDE)
    if entries is None:
        entries = queue.__dict__[BESIDE] = {}
        for other in stored:
            _add(entries, other, (other, _NOTHING, NO_FIELDS))
    elif not stored:
        entries.clear()  # what is left belongs to items that were taken out by other means
    elif len(entries) > 2 * len(stored) + _SPARE_MAX:
        there = set(map(id, stored))
        for key in [key for key in entries if key not in there]:
            del entries[key]
    _add(entries, item, (item, context, fields))


def _add(entries: dict[int, Any], item: Any, entry: Entry) -> None:
    known = entries.setdefault(id(item), entry)
    if known is not entry:
        if known.__class__ is list:
            known.append(entry)
        else:
            entries[id(item)] = [known, entry]


def _take_first(entries: dict[int, Any], found: list[Entry]) -> Entry:
    """Of an object that is there several times, the entry that is oldest; the others are kept."""
    entry = found.pop(0)
    if found:
        entries[id(entry[0])] = found
    return entry


class Delivered(Context):
    """A context that came with an item: whoever gets it has not made it current by itself."""

    __slots__ = ()


class Delivery:
    """An item's context while it is current, and what to go back to.

    Attributes:
        source: where the item comes from.
        outer: the delivery that was current before, and is again afterwards.
        span: that ends with it: a message's; an item of a queue has none.
        context: OpenTelemetry's, as long as it is current.
    """

    __slots__ = ("context", "fields_before", "outer", "previous", "source", "span")

    def __init__(self, context: Context, fields: Fields, source: Any, span: Span | None = None) -> None:
        self.source = source
        self.span = span
        self.outer = current_delivery()
        self.previous = current_context()
        self.fields_before = get_fields()
        self.context = Delivered(context)
        set_context(self.context)
        if fields is not self.fields_before:
            fields_variable.set(fields)
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
        if get_fields() is not self.fields_before:
            fields_variable.set(self.fields_before)
        return True


delivered: Final[ContextVar[Delivery | None]] = ContextVar("tracing.delivery", default=None)
current_delivery: Final = delivered.get

# Before Python 3.12, `asyncio.wait_for` gets the item in a task of its own; here that leaves the delivery.
left_here: Final[ContextVar[list[Callable[[], None]] | None]] = ContextVar("tracing.left", default=None)


def is_occupied() -> bool:
    """Whether the getter has an un-ended span that it made current itself, or that of a message."""
    context: Any = current_context()
    span = context.get(SPAN_KEY)
    if span is None or not _is_open(span):
        return False
    if context.__class__ is Delivered:
        delivery = current_delivery()
        return delivery is not None and delivery.span is not None and delivery.context is context
    # Whether somebody else's scope was entered here cannot be found out: it is taken for the getter's own.
    while context.__class__ is ScopedContext:
        if context.previous.get(SPAN_KEY) is not span:  # else it is inside the span's, such as of baggage
            return _is_own(context)
        context = context.previous
    return True


# A scope that was found to be handed over to this execution context. Contexts that are copied from this one
# inherit the answer, and it is as true there: nobody entered it in them either.
_handed_over: Final[ContextVar[ScopedContext | None]] = ContextVar("tracing.handed_over", default=None)


def _is_own(context: ScopedContext) -> bool:
    """`entered_here`, asked once of a scope for which the answer is no: that is an exception inside."""
    if _handed_over.get() is context:
        return False
    if entered_here(context):
        return True
    _handed_over.set(context)
    return False


def _is_open(span: Any) -> bool:
    if span.__class__ is LightSpan:
        return bool(span.is_recording())
    return getattr(span, "end_time", None) is None and bool(span.get_span_context().is_valid)


def deliver(make: Callable[[], None]) -> None:
    """Call what delivers an item's context: here, or where somebody waits for the task that got the item."""
    left = left_here.get()
    if left is not None:
        left.append(make)
    else:
        make()


def _deliver_item(context: Context, fields: Fields, source: Any) -> None:
    if not is_occupied():
        Delivery(context, fields, source)


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


def carrying_put(handoff: Patches, attribute: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a `_put` that notes the context of the item.

    Args:
        handoff: says whether it is on.
        attribute: of a queue, that holds its items.
    """

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def put(self: Any, item: Any) -> None:
            if handoff.on and not fuse.blown:
                try:
                    context, fields = current_context(), get_fields()
                    if context or fields is not NO_FIELDS or BESIDE in self.__dict__:
                        note(self, getattr(self, attribute), item, context, fields)
                except Exception as error:
                    fuse.failed(error)
            original(self, item)

        return put

    return make


def delivering_get(handoff: Patches) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a `_get` that delivers the context of the item."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def get(self: Any) -> Any:
            item = original(self)
            entries = self.__dict__.get(BESIDE)
            if entries and handoff.on and not fuse.blown:
                try:
                    entry = entries.pop(id(item), None)
                    if entry.__class__ is list:
                        entry = _take_first(entries, entry)
                    if entry is not None:
                        _, context, fields = entry
                        if context or fields is not NO_FIELDS:
                            if left_here.get() is not None:
                                deliver(partial(_deliver_item, context, fields, self))
                            elif not is_occupied():
                                Delivery(context, fields, self)
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
        try:
            original(self)
        except BaseException as error:
            without_our_frame(error)
            raise

    return task_done
