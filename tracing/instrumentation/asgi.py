"""Requests through ASGI: Starlette and FastAPI by themselves, any other application by `asgi(app)`."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from tracing import semconv as sc
from tracing.handoff import Patch
from tracing.instrumentation.server import (
    REQUEST,
    WANTED_HEADERS,
    Request,
    fuse,
    is_on_elsewhere,
    is_wanted,
    latest,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TRACE_ID_HEADER: Final = b"x-trace-id"


def asgi(app: App) -> App:
    """Trace the requests of an ASGI application: `app = tracing.asgi(app)`.

    The trace of the caller goes on, the answer has the header `X-Trace-ID`. Starlette and FastAPI need no
    wrapping when `instrument()` was called.
    """

    async def traced(scope: Scope, receive: Receive, send: Send) -> None:
        await serve(app, scope, receive, send)

    return traced


async def serve(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Let an application answer one request inside a span."""
    request = _begun(scope)
    if request is None:
        await app(scope, receive, send)
        return
    try:
        await app(scope, receive, _Answer(request, send))
    except BaseException as error:
        request.failed(error)
        raise
    finally:
        request.leave()


def _begun(scope: Scope) -> Request | None:
    """Start the span of a request; `None`: it is none, it has one, or we cannot."""
    if scope["type"] not in ("http", "websocket") or REQUEST in scope:
        return None
    latest.set(None)
    try:
        if not is_wanted(scope.get("path", "")):
            return None
        request = Request(scope.get("method") or "WEBSOCKET")
        headers: dict[str, str] = {}
        for raw, value in scope.get("headers") or ():
            name = raw.decode("latin-1").lower()
            if name in WANTED_HEADERS:
                text = value.decode("latin-1")
                headers[name] = f"{headers[name]},{text}" if name in headers else text
        request.begin(headers, _attributes(scope))
        scope[REQUEST] = request
        latest.set(request)
        return request
    except Exception as error:
        fuse.failed(error)
        return None


def _attributes(scope: Scope) -> dict[str, Any]:
    found: dict[str, Any] = {"url.scheme": scope.get("scheme", "http"), "url.path": scope.get("path", "")}
    if query := scope.get("query_string"):
        found["url.query"] = query.decode("latin-1")
    if server := scope.get("server"):
        found[sc.SERVER_ADDRESS] = server[0]
        if server[1] is not None:
            found["server.port"] = server[1]
    if client := scope.get("client"):
        found["client.address"] = client[0]
    if version := scope.get("http_version"):
        found["network.protocol.version"] = version
    return found


class _Answer:
    """A `send` that sees the status, adds the trace id, and ends the span with the last byte."""

    __slots__ = ("_left", "_request", "_send")

    def __init__(self, request: Request, send: Send) -> None:
        self._request = request
        self._send = send
        self._left = -1  # bytes that the answer has announced and not sent; -1: it announced none

    async def __call__(self, message: Any) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            message = self._started(message)
        elif kind == "http.response.body":
            self._left -= len(message.get("body", b""))
            if self._left == 0 or not message.get("more_body"):
                self._request.end()  # before the send, so that the caller's span cannot end earlier than ours
        await self._send(message)

    def _started(self, message: Any) -> Any:
        try:
            self._request.status = message["status"]
            trace_id = self._request.trace_id
            headers = list(message.get("headers") or ())  # which may be an iterator
            known = {bytes(name).lower(): value for name, value in headers}
            if (length := known.get(b"content-length", b"")).isdigit():
                self._left = int(length)
            if trace_id is not None and _TRACE_ID_HEADER not in known:
                headers.append((_TRACE_ID_HEADER, trace_id.encode()))
            return {**message, "headers": headers}
        except Exception as error:
            fuse.failed(error)
            return message


# ---------------------------------------------------------------- Starlette, and FastAPI, which is one


def starlette_patches(applications: Any, routing: Any) -> list[Patch]:
    """What makes every Starlette application trace its requests, those made before too.

    Args:
        applications, routing: the modules of `starlette`.
    """
    return [
        Patch(applications.Starlette, "__call__", traced_call),
        Patch(routing.Route, "handle", _route),
        Patch(routing.WebSocketRoute, "handle", _route),
    ]


def traced_call(original: Callable[..., Any]) -> Callable[..., Any]:
    """The `__call__` of a class of ASGI applications, with a span around each request."""

    @functools.wraps(original)
    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        if is_on_elsewhere(self):
            await original(self, scope, receive, send)
        else:
            await serve(functools.partial(original, self), scope, receive, send)

    return call


def _route(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def handle(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        request = scope.get(REQUEST)
        if request is not None:
            try:
                mounted = scope.get("root_path", "").removeprefix(scope.get("app_root_path", ""))
                request.routed(mounted + self.path)
            except Exception as error:
                fuse.failed(error)
        await original(self, scope, receive, send)

    return handle
