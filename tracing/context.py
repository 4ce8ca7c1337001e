"""What is true where the program is now: the current ids, the bound fields, the baggage.

Bound fields are in a variable of ours, read as it is on the hot path; `tracing.current` shows it by name
and type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry import baggage
from opentelemetry.context.context import Context
from opentelemetry.trace import Span, format_span_id, format_trace_id

from tracing import fastline
from tracing.health import count
from tracing.line import cut
from tracing.scopes import SPAN_KEY, current_context, get_context, set_context

FIELDS_MAX: Final = 64  # bound at one time; every log line and span carries them all
FIELD_CHARS_MAX: Final = 1024  # of one text

# Keys of OpenTelemetry's context that are ours: what an X-Trace-ID without a span asked for.
WANTED_TRACE_ID: Final = "backtrail-wanted-trace-id"
CORRELATION_ID: Final = "backtrail-correlation-id"


# ---------------------------------------------------------------- the current ids


def current_span() -> Span | None:
    """The current span, recording or remote; `None` outside any."""
    span = current_context().get(SPAN_KEY)
    return span if isinstance(span, Span) else None


def current_trace_id() -> str | None:
    """The current trace's id, 32 hex; `None` outside any trace.

    It is known before the first span when a caller sent an `X-Trace-ID`.
    """
    context = current_context()
    span = context.get(SPAN_KEY)
    if isinstance(span, Span) and (found := span.get_span_context()).is_valid:
        return format_trace_id(found.trace_id)
    wanted = context.get(WANTED_TRACE_ID)
    return format_trace_id(wanted) if isinstance(wanted, int) else None


def current_span_id() -> str | None:
    """The current span's id, 16 hex; `None` outside any span."""
    span = current_span()
    if span is None or not (found := span.get_span_context()).is_valid:
        return None
    return format_span_id(found.span_id)


# ---------------------------------------------------------------- bound fields


class Fields(dict[str, Any]):
    """Bound fields, never changed once made, with the piece of a line that says them.

    Attributes:
        encoded: `,"attributes":{…}`, empty for no fields; `None`: only the careful encoder can write them.
    """

    __slots__ = ("encoded",)

    encoded: bytes | None

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        try:
            self.encoded = fastline.attributes(self)
        except Exception:
            self.encoded = None


NO_FIELDS: Final = Fields({})
fields_variable: Final[ContextVar[Fields]] = ContextVar("tracing.fields", default=NO_FIELDS)
get_fields: Final = fields_variable.get


class _Declared:
    """What is known of fields by name; written by `declare` and `configure()`, read everywhere."""

    def __init__(self) -> None:
        self.kinds: dict[str, type] = {}
        self.baggage: frozenset[str] = frozenset()
        self.clean: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None


declared: Final = _Declared()


def declare(name: str, kind: type = str, *, baggage: bool = False) -> None:
    """Say what a field is before it is bound.

    Args:
        name: the field, as in `bind(name=…)`.
        kind: its type; a value of another type is converted, and counted when it cannot be.
        baggage: whether the field travels to the services that are called. Not by default: what is bound may
            be about people, and the other side may not be ours.
    """
    declared.kinds[name] = kind
    if baggage:
        declared.baggage |= {name}
    else:
        declared.baggage -= {name}


def bind(**fields: Any) -> None:
    """Put fields on every log line and span that follows in this context, and on the current span.

    At most `FIELDS_MAX` fields, texts of at most `FIELD_CHARS_MAX` characters; what is over is counted.
    """
    clean = _checked(fields)
    fields_variable.set(_merged(get_fields(), clean))
    span = current_span()
    if span is not None and span.is_recording():
        span.set_attributes(clean)


def unbind(*names: str) -> None:
    """Take fields off again; names that are not bound are passed over."""
    known = get_fields()
    if not known.keys().isdisjoint(names):
        fields_variable.set(Fields({name: value for name, value in known.items() if name not in names}))


class bound:  # lower case, as it reads: `with bound(order=7):`
    """Bind fields for a `with` or `async with` block.

    Leaving takes back exactly these fields; what was bound inside stays. It may happen in another
    context than the entering did, as with a generator that is closed early.
    """

    __slots__ = ("_before", "_fields")

    def __init__(self, **fields: Any) -> None:
        self._fields = _checked(fields)
        self._before: list[Fields] = []

    def __enter__(self) -> Self:
        before = get_fields()
        self._before.append(before)
        fields_variable.set(_merged(before, self._fields))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        before = self._before.pop()
        now = get_fields()
        restored = dict(now)
        for name, value in self._fields.items():
            if (
                name in now and now[name] is value
            ):  # else it was bound anew inside, or this is not the context
                if name in before:
                    restored[name] = before[name]
                else:
                    del restored[name]
        fields_variable.set(before if restored == before else Fields(restored))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


def _checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as they are kept: of their declared type, texts cut, secrets taken out."""
    checked: dict[str, Any] = {}
    for name, value in fields.items():
        kind = declared.kinds.get(name)
        if kind is not None and not isinstance(value, kind):
            try:
                value = kind(value)
            except Exception:
                count("field_of_wrong_type")
        checked[name] = cut(value, FIELD_CHARS_MAX) if isinstance(value, str) else value
    clean = declared.clean
    return dict(clean(checked)) if clean is not None else checked


def _merged(known: Fields, new: Mapping[str, Any]) -> Fields:
    merged = {**known, **new}
    if len(merged) > FIELDS_MAX:
        over = list(merged)[FIELDS_MAX:]
        count("fields_over_limit", len(over))
        for name in over:
            del merged[name]
    return Fields(merged)


# ---------------------------------------------------------------- baggage


def incoming_fields(context: Context) -> dict[str, Any]:
    """Fields that a caller sent: declared baggage, and an X-Trace-ID that cannot be a trace id."""
    found: dict[str, Any] = {}
    if declared.baggage and (sent := baggage.get_all(context)):
        found = {name: sent[name] for name in sent.keys() & declared.baggage}
    correlation = context.get(CORRELATION_ID)
    if correlation is not None:
        found["correlation.id"] = correlation
    return found


# ---------------------------------------------------------------- handing a context on


class Snapshot:
    """What is current now, to be made current again in another thread, task or callback.

    Only what is ours travels: other `ContextVar`s of the program stay as the program left them.
    """

    __slots__ = ("context", "fields")

    def __init__(self) -> None:
        self.context = current_context()
        self.fields = get_fields()

    @classmethod
    def of(cls, context: Context, fields: Fields) -> Self:
        """What came from elsewhere, such as another process."""
        snapshot = cls.__new__(cls)
        snapshot.context, snapshot.fields = context, fields
        return snapshot

    @property
    def empty(self) -> bool:
        """Whether there is nothing to hand on."""
        return not self.context and self.fields is NO_FIELDS

    def install(self) -> None:
        """Make it current here, for good: a new thread has nothing to go back to."""
        set_context(self.context)
        fields_variable.set(self.fields)

    def run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call `function` with it current, and put back what was."""
        context, fields = get_context(), get_fields()
        self.install()
        try:
            return function(*args, **kwargs)
        finally:
            set_context(context)
            fields_variable.set(fields)
