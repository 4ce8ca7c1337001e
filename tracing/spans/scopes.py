"""Where a span is the current one: `with`, `async with`, `@traced` on every kind of function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.util import types

from tracing.health import Fuse
from tracing.scopes import ScopedContext, enter_span, get_context, leave, set_context
from tracing.spans import failures
from tracing.spans.light import Span
from tracing.spans.lines import described

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

P = ParamSpec("P")
R = TypeVar("R")


class SpanScope:
    """A span that is current inside a `with` or `async with` block and ends with it.

    An exception that leaves the block is recorded on the span and passes on. As a decorator, each call gets a
    span of its own.
    """

    __slots__ = (
        "_attributes",
        "_end_on_exit",
        "_kind",
        "_links",
        "_name",
        "_parent",
        "_record_exception",
        "_scope",
        "_set_status_on_exception",
        "_span",
        "_start_time",
        "_tracer",
    )

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: types.Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> None:
        # One by one: a call that spreads a tuple over its parameters costs a fifth of a microsecond more.
        self._tracer = tracer
        self._name = name
        self._parent = context
        self._kind = kind
        self._attributes = attributes
        self._links = links
        self._start_time = start_time
        self._record_exception = record_exception
        self._set_status_on_exception = set_status_on_exception
        self._end_on_exit = end_on_exit
        self._span: trace.Span | None = None
        self._scope: ScopedContext | None = None

    def __enter__(self) -> trace.Span:
        span = self._span = self._tracer.start_span(
            self._name,
            self._parent,
            self._kind,
            self._attributes,
            self._links,
            self._start_time,
            self._record_exception,
            self._set_status_on_exception,
        )
        self._scope = enter_span(span)
        return span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        span, scope = self._span, self._scope
        if span is None or scope is None:
            return  # left twice, or never entered
        self._span = self._scope = None
        if error is not None:
            fail(span, error, record=self._record_exception, set_status=self._set_status_on_exception)
        leave(scope)
        if self._end_on_exit:
            span.end()

    async def __aenter__(self) -> trace.Span:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return wrapped(function, self._again)

    def _again(self) -> SpanScope:
        return SpanScope(
            self._tracer,
            self._name,
            self._parent,
            self._kind,
            self._attributes,
            self._links,
            self._start_time,
            self._record_exception,
            self._set_status_on_exception,
            self._end_on_exit,
        )


def fail(span: trace.Span, error: BaseException, *, record: bool, set_status: bool) -> None:
    """Note an exception on a span, ours or anybody's, and where it came from; never raises."""
    try:
        failures.remember(span, error)
        if isinstance(span, Span):
            span.fail(error, record=record, set_status=set_status)
        elif isinstance(error, Exception) and span.is_recording():
            if record:
                span.record_exception(error)
            if set_status:
                span.set_status(Status(StatusCode.ERROR, described(error)))
    except Exception as failure:
        _fuse.failed(failure)


_fuse: Final = Fuse("recording of exceptions")


# ---------------------------------------------------------------- functions of every kind


def wrapped(function: Callable[P, R], scope: Callable[[], SpanScope]) -> Callable[P, R]:
    """Give each call of a function a scope; a generator is inside it only while its own code runs."""
    call: Callable[..., Any] = function
    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def async_generator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            steps = _Steps(scope())
            inner = call(*args, **kwargs)
            with steps:
                step: Callable[..., Awaitable[Any]] = inner.asend
                argument: Any = None
                while True:
                    try:
                        item = await steps.run_async(step, argument)
                    except StopAsyncIteration:
                        return
                    try:
                        argument = yield item
                        step = inner.asend
                    except GeneratorExit:
                        await steps.run_async(inner.aclose)
                        raise
                    except BaseException as error:
                        step, argument = inner.athrow, error

        return async_generator  # type: ignore[return-value]
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            steps = _Steps(scope())
            inner = call(*args, **kwargs)
            with steps:
                step: Callable[..., Any] = inner.send
                argument: Any = None
                while True:
                    try:
                        item = steps.run(step, argument)
                    except StopIteration as stop:
                        return stop.value
                    try:
                        argument = yield item
                        step = inner.send
                    except GeneratorExit:
                        steps.run(inner.close)
                        raise
                    except BaseException as error:
                        step, argument = inner.throw, error

        return generator  # type: ignore[return-value]
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with scope():
                return await call(*args, **kwargs)

        return coroutine  # type: ignore[return-value]

    @functools.wraps(function)
    def plain(*args: P.args, **kwargs: P.kwargs) -> R:
        with scope():
            return function(*args, **kwargs)

    return plain


class _Steps:
    """Runs the steps of a generator inside a scope, and what lies between them outside of it.

    A generator shares the context of whoever advances it. Left current over a `yield`, its span would
    become the parent of the caller's spans, and a generator closed elsewhere would leave it there.
    """

    __slots__ = ("_inside", "_scope")

    def __init__(self, scope: SpanScope) -> None:
        self._scope = scope
        self._inside: Context | None = None

    def __enter__(self) -> None:
        outside = get_context()
        self._scope.__enter__()
        self._inside = get_context()
        set_context(outside)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._scope.__exit__(kind, error, traceback)

    def run(self, step: Callable[..., Any], *args: Any) -> Any:
        """Advance a generator by one step."""
        outside = get_context()
        set_context(self._inside or outside)
        try:
            return step(*args)
        finally:
            self._inside = get_context()
            set_context(outside)

    async def run_async(self, step: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Advance an async generator by one step."""
        outside = get_context()
        set_context(self._inside or outside)
        try:
            return await step(*args)
        finally:
            self._inside = get_context()
            set_context(outside)
