"""Connections of the `websockets` library: the handshake carries the trace, the handler is inside a span."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from opentelemetry.trace import SpanKind

from tracing import semconv as sc
from tracing.handoff import Patch
from tracing.instrumentation.server import SCOPE, Request, fuse, is_wanted, wanted_headers
from tracing.propagation import inject
from tracing.propagation.x_trace_id import HEADER
from tracing.sink import slot
from tracing.spans import get_tracer

_ATTRIBUTE: Final = "_backtrail_request"  # of the server's connection
_METHOD: Final = "WEBSOCKET"
_SWITCHING_PROTOCOLS: Final = 101


def asyncio_server_patches() -> list[Patch]:
    """For `websockets.asyncio.server`."""
    server = import_module("websockets.asyncio.server").ServerConnection
    connection = import_module("websockets.asyncio.connection").Connection
    return [Patch(server, "handshake", _async_accept), Patch(connection, "__aexit__", _async_leave)]


def threading_server_patches() -> list[Patch]:
    """For `websockets.sync.server`."""
    server = import_module("websockets.sync.server").ServerConnection
    connection = import_module("websockets.sync.connection").Connection
    return [Patch(server, "handshake", _accept), Patch(connection, "__exit__", _leave)]


def asyncio_client_patches() -> list[Patch]:
    """For `websockets.asyncio.client`."""
    return [Patch(import_module("websockets.asyncio.client").ClientConnection, "handshake", _async_connect)]


def threading_client_patches() -> list[Patch]:
    """For `websockets.sync.client`."""
    return [Patch(import_module("websockets.sync.client").ClientConnection, "handshake", _connect)]


# ---------------------------------------------------------------- server


def _async_accept(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def handshake(
        self: Any, process_request: Any = None, process_response: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        hooks = _begun_by(process_request), _answered_by(process_response)
        try:
            await original(self, *hooks, *args, **kwargs)
        except BaseException as error:
            _end(self, error)
            raise
        _end_if_refused(self)

    return handshake


def _accept(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handshake(
        self: Any, process_request: Any = None, process_response: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        hooks = _begun_by(process_request), _answered_by(process_response)
        try:
            original(self, *hooks, *args, **kwargs)
        except BaseException as error:
            _end(self, error)
            raise
        _end_if_refused(self)

    return handshake


def _begun_by(theirs: Callable[..., Any] | None) -> Callable[..., Any]:
    """A `process_request` that starts the span before the program's own, which may log."""

    def process_request(connection: Any, request: Any) -> Any:
        _begin(connection, request)
        return None if theirs is None else theirs(connection, request)

    return process_request


def _answered_by(theirs: Callable[..., Any] | None) -> Callable[..., Any]:
    """A `process_response` that adds the trace id after the program's own."""

    def process_response(connection: Any, request: Any, response: Any) -> Any:
        ours = getattr(connection, _ATTRIBUTE, None)
        if ours is not None:
            ours.status = response.status_code
            if (trace_id := ours.trace_id) is not None and HEADER not in response.headers:
                response.headers[HEADER] = trace_id
        return None if theirs is None else theirs(connection, request, response)

    return process_response


def _begin(connection: Any, request: Any) -> None:
    try:
        path, _, query = request.path.partition("?")
        if not is_wanted(path):
            return
        ours = Request(_METHOD)
        attributes = {"url.path": path}
        if query:
            attributes["url.query"] = query
        ours.begin(wanted_headers(request.headers.raw_items()), attributes)
        setattr(connection, _ATTRIBUTE, ours)
    except Exception as error:
        fuse.failed(error)


def _end_if_refused(connection: Any) -> None:
    ours = getattr(connection, _ATTRIBUTE, None)
    if ours is not None and ours.status != _SWITCHING_PROTOCOLS:
        _end(connection, None)


def _end(connection: Any, error: BaseException | None) -> None:
    ours: Request | None = getattr(connection, _ATTRIBUTE, None)
    if ours is None:
        return
    setattr(connection, _ATTRIBUTE, None)
    if error is not None:
        ours.failed(error)
    ours.leave()


def _async_leave(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def aexit(self: Any, kind: Any, error: Any, traceback: Any) -> None:
        try:
            await original(self, kind, error, traceback)
        finally:
            _end(self, error)

    return aexit


def _leave(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def leave(self: Any, kind: Any, error: Any, traceback: Any) -> None:
        try:
            original(self, kind, error, traceback)
        finally:
            _end(self, error)

    return leave


# ---------------------------------------------------------------- client


def _async_connect(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def handshake(self: Any, additional_headers: Any = None, *args: Any, **kwargs: Any) -> None:
        if not slot.active or fuse.blown:
            await original(self, additional_headers, *args, **kwargs)
            return
        with _client_span(self):
            await original(self, _with_ours(additional_headers), *args, **kwargs)

    return handshake


def _connect(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handshake(self: Any, additional_headers: Any = None, *args: Any, **kwargs: Any) -> None:
        if not slot.active or fuse.blown:
            original(self, additional_headers, *args, **kwargs)
            return
        with _client_span(self):
            original(self, _with_ours(additional_headers), *args, **kwargs)

    return handshake


def _client_span(connection: Any) -> Any:
    """A span of the handshake: what comes later belongs to whoever sends it."""
    uri = getattr(connection.protocol, "uri", None)
    attributes: dict[str, Any] = {}
    if uri is not None:
        attributes = {sc.SERVER_ADDRESS: uri.host, "server.port": uri.port, "url.path": uri.path}
    return get_tracer(SCOPE).start_as_current_span(_METHOD, kind=SpanKind.CLIENT, attributes=attributes)


def _with_ours(theirs: Any) -> Any:
    """The program's headers and those of the trace; what the program says itself counts."""
    try:
        headers = import_module("websockets.datastructures").Headers(theirs or ())
        for name, value in inject({}).items():
            if name not in headers:
                headers[name] = value
        return headers
    except Exception as error:
        fuse.failed(error)
        return theirs
