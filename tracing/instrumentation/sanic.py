"""Requests that Sanic answers, by its own server or under ASGI.

Sanic's server writes `Sanic.handle_request` and methods of its protocol anew when it starts, from their
source without what is wrapped around them ("touch-up"), so a request is met one step earlier: in what a
connection is told to call.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, Final

from tracing import semconv as sc
from tracing.handoff import Patch
from tracing.instrumentation.asgi import traced_call
from tracing.instrumentation.server import (
    ERROR_STATUS,
    Request,
    fuse,
    is_wanted,
    latest,
    wanted_headers,
)
from tracing.propagation.x_trace_id import HEADER

Handler = Callable[[Any], Awaitable[None]]

_WEBSOCKET: Final = "WEBSOCKET"  # in place of the method, as under ASGI: a connection is no GET


def sanic_patches() -> list[Patch]:
    """What makes every Sanic application trace its requests; needs `sanic.app`."""
    return [
        Patch(import_module("sanic.app").Sanic, "__call__", traced_call),
        Patch(import_module("sanic.server.protocols.http_protocol").HttpProtocolMixin, "_setup", _setup),
        Patch(import_module("sanic.router").Router, "get", _route),
        Patch(import_module("sanic.handlers").ErrorHandler, "lookup", _error),
        Patch(import_module("sanic.response").BaseHTTPResponse, "send", _send),
    ]


def _setup(original: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(original)
    def setup(self: Any) -> None:
        original(self)
        self.request_handler = functools.partial(_handle, self.request_handler)

    return setup


async def _handle(handler: Handler, request: Any) -> None:
    """Let Sanic's own server answer one request inside a span."""
    ours = _begun(request)
    if ours is None:
        await handler(request)
        return
    try:
        await handler(request)
    except BaseException as error:
        ours.failed(error)
        raise
    finally:
        ours.leave()
        latest.set(None)  # the connection's next request may be one that is none


def _begun(request: Any) -> Request | None:
    """Start the span of a request; `None`: it is not wanted, or we cannot."""
    try:
        if not is_wanted(request.path):
            return None
        is_websocket = request.headers.get("upgrade", "").lower() == "websocket"
        ours = Request(_WEBSOCKET if is_websocket else request.method)
        ours.begin(wanted_headers(request.headers.items()), _attributes(request))
        latest.set(ours)
        return ours
    except Exception as error:
        fuse.failed(error)
        return None


def _attributes(request: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "url.scheme": request.scheme,
        "url.path": request.path,
        "network.protocol.version": request.version,
    }
    optional = {
        "url.query": request.query_string,
        sc.SERVER_ADDRESS: request.host,
        "client.address": request.remote_addr or request.ip,
    }
    return found | {name: value for name, value in optional.items() if value}


def _route(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = original(self, *args, **kwargs)
        try:
            if (ours := latest.get()) is not None:
                ours.routed(f"/{found[0].path}")
        except Exception as error:
            fuse.failed(error)
        return found

    return get


def _error(original: Callable[..., Any]) -> Callable[..., Any]:
    """Whatever a handler raises is looked up, for the program may have a handler for it."""

    @functools.wraps(original)
    def lookup(self: Any, exception: BaseException, *args: Any, **kwargs: Any) -> Any:
        try:
            ours = latest.get()
            # NotFound and the like are answers in the form of exceptions; other errors have no such number.
            if ours is not None and getattr(exception, "status_code", ERROR_STATUS) >= ERROR_STATUS:
                ours.failed(exception)
        except Exception as error:
            fuse.failed(error)
        return original(self, exception, *args, **kwargs)

    return lookup


def _send(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(original)
    async def send(self: Any, data: Any = None, end_stream: bool | None = None) -> None:
        try:
            if (ours := latest.get()) is not None:
                _sending(ours, self, is_last=data is None if end_stream is None else end_stream)
        except Exception as error:
            fuse.failed(error)
        await original(self, data, end_stream)

    return send


def _sending(ours: Request, response: Any, *, is_last: bool) -> None:
    if not ours.status:  # the headers have not gone yet
        ours.status = response.status
        if (trace_id := ours.trace_id) is not None:
            response.headers.setdefault(HEADER, trace_id)
    if is_last:
        ours.end()  # before the last bytes go, so that the caller's span cannot end earlier than ours
