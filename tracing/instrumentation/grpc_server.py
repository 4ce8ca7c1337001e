"""Calls that a gRPC server answers, of both kinds: threads and asyncio.

OpenTelemetry's interceptor leaves the status of a call that failed unset, and its context object hides what
the server's own has. This one asks the server's context, after the handler, what became of the call.

Source: OpenTelemetry semantic conventions 1.37, "gRPC".
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from types import TracebackType
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from tracing.handoff import Patch
from tracing.instrumentation.server import SCOPE, enter_request, fuse
from tracing.propagation import extract
from tracing.scopes import ScopedContext, leave
from tracing.sink import slot
from tracing.spans import get_tracer
from tracing.spans.scopes import fail

_OK: Final = 0
_UNKNOWN: Final = 2
# Of the others the caller is the cause, and the server's span says nothing bad.
# DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
_SERVER_ERRORS: Final = frozenset({_UNKNOWN, 4, 12, 13, 14, 15})

# By whether requests and responses are streams: a handler's field, and what makes such a handler.
_KINDS: Final = {
    (False, False): ("unary_unary", "unary_unary_rpc_method_handler"),
    (False, True): ("unary_stream", "unary_stream_rpc_method_handler"),
    (True, False): ("stream_unary", "stream_unary_rpc_method_handler"),
    (True, True): ("stream_stream", "stream_stream_rpc_method_handler"),
}


def server_patches() -> list[Patch]:
    """What gives every server of `grpc.server()` our interceptor, before its own; needs `grpc`."""
    return [Patch(import_module("grpc"), "server", _server)]


def aio_server_patches() -> list[Patch]:
    """The same for `grpc.aio.server()`; needs `grpc.aio`."""
    return [Patch(import_module("grpc.aio"), "server", _aio_server)]


def _server(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def server(
        thread_pool: Any, handlers: Any = None, interceptors: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        return original(thread_pool, handlers, (_interceptor(), *(interceptors or ())), *args, **kwargs)

    return server


def _aio_server(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def server(
        migration_thread_pool: Any = None,
        handlers: Any = None,
        interceptors: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        ours = (_aio_interceptor(), *(interceptors or ()))
        return original(migration_thread_pool, handlers, ours, *args, **kwargs)

    return server


@functools.cache
def _interceptor() -> Any:
    base: Any = import_module("grpc").ServerInterceptor

    class Interceptor(base):  # type: ignore[misc]  # known only once the program has imported it
        """Finds the handler of a call and wraps it."""

        def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
            return _wrapped(continuation(details), details.method, _of_thread)

    return Interceptor()


@functools.cache
def _aio_interceptor() -> Any:
    base: Any = import_module("grpc.aio").ServerInterceptor

    class Interceptor(base):  # type: ignore[misc]
        """Finds the handler of a call and wraps it."""

        async def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
            return _wrapped(await continuation(details), details.method, _of_task)

    return Interceptor()


def _wrapped(handler: Any, method: str, wrap: Callable[..., Callable[..., Any]]) -> Any:
    """A handler like another one, with a span around each call; `None` stays: nobody answers such calls."""
    if handler is None or not slot.active or fuse.blown:
        return handler
    try:
        field, maker = _KINDS[handler.request_streaming, handler.response_streaming]
        behavior = wrap(getattr(handler, field), method, handler.response_streaming)
        return getattr(import_module("grpc"), maker)(
            behavior,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
    except Exception as error:
        fuse.failed(error)
        return handler


def _of_thread(behavior: Callable[..., Any], method: str, is_streaming: bool) -> Callable[..., Any]:
    def answer(request: Any, context: Any) -> Any:
        with _Call(method, context):
            return behavior(request, context)

    def stream(request: Any, context: Any) -> Iterator[Any]:
        with _Call(method, context):
            yield from behavior(request, context)

    return stream if is_streaming else answer


def _of_task(behavior: Callable[..., Any], method: str, is_streaming: bool) -> Callable[..., Any]:
    async def answer(request: Any, context: Any) -> Any:
        with _Call(method, context):
            found = behavior(request, context)
            return await found if inspect.isawaitable(found) else found

    async def write(request: Any, context: Any) -> None:
        # A handler that writes through `context.write` instead of yielding.
        with _Call(method, context):
            await behavior(request, context)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        with _Call(method, context):
            async for part in behavior(request, context):
                yield part

    if not is_streaming:
        # What asyncio's server would run in a thread stays what it is.
        is_plain = not (inspect.iscoroutinefunction(behavior) or _is_coroutine_object(behavior))
        return _of_thread(behavior, method, False) if is_plain else answer
    if inspect.isasyncgenfunction(behavior):
        return stream
    return write if inspect.iscoroutinefunction(behavior) else _of_thread(behavior, method, True)


def _is_coroutine_object(behavior: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(getattr(behavior, "__call__", None))  # noqa: B004  # not whether, but which


class _Call:
    """One call: its span, current inside the block, with what became of the call. Never raises by itself."""

    def __init__(self, method: str, context: Any) -> None:
        self._context = context
        self._span: trace.Span = trace.INVALID_SPAN
        self._scope: ScopedContext | None = None
        try:
            service, _, name = method.lstrip("/").rpartition("/")
            caller = extract(context.invocation_metadata() or ())
            self._span = get_tracer(SCOPE).start_span(
                method.lstrip("/"),
                context=caller,
                kind=SpanKind.SERVER,
                attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
            )
            self._scope = enter_request(self._span, caller)
        except Exception as error:
            fuse.failed(error)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._finish(error)
        except Exception as failure:
            fuse.failed(failure)
        self._span.end()
        if self._scope is not None:
            leave(self._scope)

    def _finish(self, error: BaseException | None) -> None:
        code = self._context.code()
        number = code.value[0] if hasattr(code, "value") else int(code or _OK)
        if isinstance(error, Exception) and not _is_abort(error):
            fail(self._span, error, record=True, set_status=True)
            number = number or _UNKNOWN
        elif number in _SERVER_ERRORS:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.set_attribute("rpc.grpc.status_code", number)


def _is_abort(error: Exception) -> bool:
    """Whether `context.abort()` left the handler so: by a bare `Exception`, or asyncio's `AbortError`."""
    return (type(error) is Exception and not error.args) or type(error).__name__ == "AbortError"
