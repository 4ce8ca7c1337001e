"""Requests that Tornado answers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from tracing import semconv as sc
from tracing.handoff import Patch
from tracing.instrumentation.server import ERROR_STATUS, Request, fuse, is_wanted, wanted_headers
from tracing.propagation.x_trace_id import HEADER

_ATTRIBUTE: Final = "_backtrail_request"  # of the handler, of which there is one a request
_SWITCHING_PROTOCOLS: Final = 101


def tornado_patches() -> list[Patch]:
    """What makes every Tornado handler trace its requests; needs `tornado.web`."""
    handler = import_module("tornado.web").RequestHandler
    return [
        Patch(handler, "_execute", _execute),
        Patch(handler, "_handle_request_exception", _error_page),
        Patch(handler, "flush", _flush),
        Patch(handler, "finish", _finish),
    ]


def _execute(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def execute(self: Any, *args: Any, **kwargs: Any) -> None:
        ours = _begun(self)
        if ours is None:
            await original(self, *args, **kwargs)
            return
        try:
            await original(self, *args, **kwargs)
        except BaseException as error:
            ours.failed(error)
            raise
        finally:
            ours.leave()

    return execute


def _begun(handler: Any) -> Request | None:
    """Start the span of a handler's request; `None`: it is not wanted, or we cannot."""
    try:
        request = handler.request
        if not is_wanted(request.path):
            return None
        ours = Request(request.method)
        attributes = {
            "url.scheme": request.protocol,
            "url.path": request.path,
            sc.SERVER_ADDRESS: request.host,
            "network.protocol.version": request.version.rpartition("/")[2],
        }
        optional = {"url.query": request.query, "client.address": request.remote_ip}
        attributes |= {name: value for name, value in optional.items() if value}
        ours.begin(wanted_headers(request.headers.get_all()), attributes)
        setattr(handler, _ATTRIBUTE, ours)
        # Tornado forgets which pattern was met; the handler's name is as good for telling requests apart.
        ours.span.update_name(f"{request.method} {type(handler).__qualname__}")
        return ours
    except Exception as error:
        fuse.failed(error)
        return None


def _error_page(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_request_exception(self: Any, error: BaseException) -> None:
        ours = getattr(self, _ATTRIBUTE, None)
        # HTTPError(404) and Finish are answers in the form of exceptions; other errors have no such number.
        status = getattr(error, "status_code", 0 if type(error).__name__ == "Finish" else ERROR_STATUS)
        if ours is not None and status >= ERROR_STATUS:
            ours.failed(error)
        original(self, error)

    return handle_request_exception


def _flush(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def flush(self: Any, *args: Any, **kwargs: Any) -> Any:
        ours = getattr(self, _ATTRIBUTE, None)
        # Now, not earlier: an error page begins with headers of its own.
        if ours is not None and not self._headers_written and (trace_id := ours.trace_id) is not None:
            self._headers.setdefault(HEADER, trace_id)
        return original(self, *args, **kwargs)

    return flush


def _finish(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def finish(self: Any, *args: Any, **kwargs: Any) -> Any:
        ours = getattr(self, _ATTRIBUTE, None)
        if ours is not None:
            ours.status = self.get_status()
            if ours.status != _SWITCHING_PROTOCOLS:  # a WebSocket only begins here
                ours.end()
        return original(self, *args, **kwargs)

    return finish
