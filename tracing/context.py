"""What is true where the program is now: the current span, the bound fields, the baggage.

Two `ContextVar`s hold it. The current span is in OpenTelemetry's own context, so that its
instrumentations and ours see one truth. Bound fields are in a variable of ours, which the typed registry
of contextvars-extras (`current`) shows under a name; the registry costs microseconds, so the hot path
reads the variable itself.

Nothing here relies on `ContextVar.reset(token)`: a generator that is closed early is closed by whoever
holds it, maybe in another context, where a token of this one is refused ("Failed to detach context"). A
scope remembers what it found and what it set, and on leaving puts back the one only where the other still
stands. Whether a token is refused only tells it that it may still stand elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Self

import opentelemetry.context as otel_context
from contextvars_extras import ContextVarDescriptor, ContextVarsRegistry
from opentelemetry import baggage
from opentelemetry.context.context import Context
from opentelemetry.trace import Span, format_span_id, format_trace_id
from opentelemetry.trace.propagation import _SPAN_KEY as SPAN_KEY
from opentelemetry.trace.propagation import set_span_in_context

from tracing import fastline
from tracing.health import count
from tracing.line import cut

FIELDS_MAX: Final = 64  # bound at one time; every log line and span carries them all
FIELD_CHARS_MAX: Final = 1024  # of one text

# Keys of OpenTelemetry's context that are ours: what an X-Trace-ID without a span asked for.
WANTED_TRACE_ID: Final = "backtrail-wanted-trace-id"
CORRELATION_ID: Final = "backtrail-correlation-id"


# ---------------------------------------------------------------- OpenTelemetry's context


def _runtime_variable() -> ContextVar[Context] | None:
    """The variable under OpenTelemetry's context: reading it directly saves three calls on every log line."""
    runtime = getattr(otel_context, "_RUNTIME_CONTEXT", None)
    variable = getattr(runtime, "_current_context", None)
    return variable if isinstance(variable, ContextVar) else None


_variable: Final = _runtime_variable()

# Without the variable, another implementation was chosen by OTEL_PYTHON_CONTEXT.
get_context: Final[Callable[[], Context]] = otel_context.get_current if _variable is None else _variable.get
set_context: Final[Callable[[Context], Any]] = otel_context.attach if _variable is None else _variable.set


def _is_home(token: Any) -> bool:
    """Whether this is the execution context that a token is of; what it restores is overwritten later."""
    if _variable is None:
        return True
    try:
        _variable.reset(token)
    except (ValueError, RuntimeError):
        return False
    return True


class ScopedContext(Context):
    """A context that a scope of ours made current, and the one to go back to.

    Attributes:
        previous: what was current before.
        token: of the execution context that the scope was entered in.
        left: the scope was left in another execution context, or before one that was entered later. So it
            may still be current somewhere, and nobody will put `previous` back there. A scope that is
            left as it should be does not say so: tasks that were started inside it are still in it.
    """

    __slots__ = ("left", "previous", "token")

    previous: Context
    token: Any
    left: bool


_NOTHING: Final = Context()


def alive(context: Context) -> Context:
    """The nearest context whose scope has not been left elsewhere."""
    while isinstance(context, ScopedContext) and context.left:
        context = context.previous
    return context


def enter(values: Mapping[str, object]) -> ScopedContext:
    """Make a context current that has `values` in addition; `leave` ends it."""
    previous = alive(get_context())
    context = ScopedContext(previous)
    for key, value in values.items():
        dict.__setitem__(context, key, value)
    context.previous = previous
    context.left = False
    context.token = set_context(context)
    return context


def enter_span(span: Span) -> ScopedContext:
    """Make a span the current one; `leave` ends that."""
    previous = get_context()
    if isinstance(previous, ScopedContext) and previous.left:
        previous = alive(previous)
    context = ScopedContext(previous)
    dict.__setitem__(context, SPAN_KEY, span)
    context.previous = previous
    context.left = False
    context.token = set_context(context)
    return context


def leave(context: ScopedContext) -> None:
    """End a scope, wherever that happens; the order of leaving need not be the order of entering.

    Either way its chain is shortened, so that tasks, each started by the one before, do not keep them all.
    """
    now = get_context()
    previous = context.previous
    if _is_home(context.token) and now is context:
        set_context(previous if previous.__class__ is Context else alive(previous))
        context.previous = _NOTHING
        return
    context.left = True
    set_context(alive(previous if now is context else now))
    context.previous = alive(previous)


def current_context() -> Context:
    """OpenTelemetry's current context, without scopes that were left elsewhere."""
    context = get_context()
    if isinstance(context, ScopedContext) and context.left:
        context = alive(context)
        set_context(context)
    return context


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


class Current(ContextVarsRegistry):
    """The typed view of what is bound here, for programs that use contextvars-extras themselves."""

    _registry_allocate_on_setattr = False

    fields: ContextVarDescriptor[Fields] = ContextVarDescriptor.from_existing_var(fields_variable)


current: Final = Current()  # type: ignore[no-untyped-call]


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


__all__ = [
    "CORRELATION_ID",
    "FIELDS_MAX",
    "FIELD_CHARS_MAX",
    "NO_FIELDS",
    "SPAN_KEY",
    "WANTED_TRACE_ID",
    "Current",
    "Fields",
    "ScopedContext",
    "Snapshot",
    "alive",
    "bind",
    "bound",
    "current",
    "current_context",
    "current_span",
    "current_span_id",
    "current_trace_id",
    "declare",
    "declared",
    "enter",
    "enter_span",
    "fields_variable",
    "get_context",
    "get_fields",
    "incoming_fields",
    "leave",
    "set_context",
    "set_span_in_context",
    "unbind",
]
