"""What users call: `span()` and `@traced`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, ParamSpec, TypeVar, overload

from opentelemetry.trace import Link, SpanKind

from tracing import semconv as sc
from tracing.spans.scopes import SpanScope, wrapped
from tracing.spans.tracer import get_tracer

P = ParamSpec("P")
R = TypeVar("R")

_KINDS: Final = {kind.name.lower(): kind for kind in SpanKind}


def _kind(kind: SpanKind | str) -> SpanKind:
    return kind if isinstance(kind, SpanKind) else _KINDS.get(kind.lower(), SpanKind.INTERNAL)


def span(
    name: str,
    /,
    attributes: Mapping[str, Any] | None = None,
    *,
    kind: SpanKind | str = SpanKind.INTERNAL,
    links: Sequence[Link] | None = None,
    **fields: Any,
) -> SpanScope:
    """Record a piece of work: `with span("charge", order=7) as current: …`, also `async with`.

    Args:
        name: of the operation; the same for every call, so that calls can be compared.
        attributes: for names that are no identifiers, such as `{"http.route": "/orders"}`.
        kind: `internal`, `server`, `client`, `producer`, `consumer`, or a `SpanKind`.
        links: other spans that this one follows from.
        **fields: more attributes.
    Returns:
        A context manager that gives the OpenTelemetry span.
    """
    scope = sys._getframe(1).f_globals.get("__name__", "")
    if fields:
        attributes = {**attributes, **fields} if attributes else fields
    return SpanScope(get_tracer(scope), name, None, _kind(kind), attributes, links)


@overload
def traced(function: Callable[P, R], /) -> Callable[P, R]:
    """`@traced`"""


@overload
def traced(
    name: str | None = None,
    /,
    *,
    kind: SpanKind | str = SpanKind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`@traced("charge", kind="client")`"""


def traced(
    function_or_name: Callable[..., Any] | str | None = None,
    /,
    *,
    kind: SpanKind | str = SpanKind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
) -> Any:
    """Give each call of a function a span: `@traced`, `@traced("charge", kind="client")`.

    Works on functions, coroutines, generators and async generators; a generator's span lasts until it is
    exhausted or closed, and is current only while the generator's own code runs.

    Args:
        name: of the operation; default: the function's qualified name.
        kind: as for `span`.
        attributes: on every call's span, beside the place of the function.
    """
    if callable(function_or_name):
        return _traced(function_or_name, None, kind, attributes)
    name = function_or_name
    return lambda function: _traced(function, name, kind, attributes)


def _traced(
    function: Callable[P, R],
    name: str | None,
    kind: SpanKind | str,
    attributes: Mapping[str, Any] | None,
) -> Callable[P, R]:
    module = getattr(function, "__module__", None) or ""
    qualname = getattr(function, "__qualname__", None) or type(function).__qualname__
    place: dict[str, Any] = {sc.CODE_FUNCTION: f"{module}.{qualname}" if module else qualname}
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is not None:
        place |= {sc.CODE_FILE: code.co_filename, sc.CODE_LINE: code.co_firstlineno}
    given = {**place, **(attributes or {})}
    span_kind = _kind(kind)
    operation = name or qualname

    def scope() -> SpanScope:
        return SpanScope(get_tracer(module), operation, kind=span_kind, attributes=given)

    return wrapped(function, scope)
