"""Requests that a server of aiohttp's answers."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from tracing import semconv as sc
from tracing.handoff import Patch
from tracing.instrumentation.server import REQUEST, Request, fuse, is_wanted, wanted_headers
from tracing.propagation.x_trace_id import HEADER


def aiohttp_server_patches() -> list[Patch]:
    """What makes every `aiohttp.web` server trace its requests; needs `aiohttp.web`."""
    protocol = import_module("aiohttp.web_protocol").RequestHandler
    return [
        # Around the handler, the error page and the access log.
        Patch(protocol, "_handle_request", _handle),
        Patch(protocol, "handle_error", _error_page),
        Patch(protocol, "finish_response", _finish),
        Patch(import_module("aiohttp.web_request").Request, "_prepare_hook", _prepare),
        Patch(import_module("aiohttp.web_urldispatcher").UrlDispatcher, "resolve", _resolve),
    ]


def _handle(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def handle_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        ours = _begun(request)
        if ours is None:
            return await original(self, request, *args, **kwargs)
        try:
            return await original(self, request, *args, **kwargs)
        except BaseException as error:
            ours.failed(error)
            raise
        finally:
            ours.leave()

    return handle_request


def _begun(request: Any) -> Request | None:
    """Start the span of a request; `None`: it is not wanted, or we cannot."""
    try:
        if not is_wanted(request.path):
            return None
        ours = Request(request.method)
        ours.begin(wanted_headers(request.headers.items()), _attributes(request))
        request._state[REQUEST] = ours  # past the warning that `request[…] = …` gives for a plain name
        return ours
    except Exception as error:
        fuse.failed(error)
        return None


def _attributes(request: Any) -> dict[str, Any]:
    version = request.version
    found: dict[str, Any] = {
        "url.scheme": request.scheme,
        "url.path": request.path,
        "network.protocol.version": f"{version.major}.{version.minor}",
    }
    optional = {
        "url.query": request.query_string,
        sc.SERVER_ADDRESS: request.host,
        "client.address": request.remote,
    }
    return found | {name: value for name, value in optional.items() if value}


def _error_page(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def handle_error(self: Any, request: Any, status: int = 500, exc: Any = None, *args: Any) -> Any:
        ours = request.get(REQUEST)
        if ours is not None and isinstance(exc, BaseException):
            ours.failed(exc)
        return original(self, request, status, exc, *args)

    return handle_error


def _finish(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def finish_response(self: Any, request: Any, response: Any, *args: Any) -> Any:
        ours = request.get(REQUEST)
        if ours is not None:
            ours.status = getattr(response, "status", 0)
            ours.end()  # before the last bytes go, so that the caller's span cannot end earlier than ours
        return await original(self, request, response, *args)

    return finish_response


def _prepare(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def prepare_hook(self: Any, response: Any) -> None:
        ours = self.get(REQUEST)
        if ours is not None and (trace_id := ours.trace_id) is not None:
            response.headers.setdefault(HEADER, trace_id)
        await original(self, response)

    return prepare_hook


def _resolve(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def resolve(self: Any, request: Any) -> Any:
        match = await original(self, request)
        try:
            ours, resource = request.get(REQUEST), match.route.resource
            if ours is not None and resource is not None:  # where nothing fits, the route has none
                ours.routed(resource.canonical)
        except Exception as error:
            fuse.failed(error)
        return match

    return resolve
