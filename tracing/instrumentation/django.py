"""Requests that Django answers, over WSGI and over ASGI, and connections of Channels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tracing.handoff import Patch
from tracing.instrumentation import asgi, wsgi
from tracing.instrumentation.server import ERROR_STATUS, REQUEST, Request, fuse


def wsgi_patches() -> list[Patch]:
    """What makes Django's WSGI applications trace their requests; needs `django.core.handlers.wsgi`."""
    handlers = import_module("django.core.handlers.wsgi")
    return [Patch(handlers.WSGIHandler, "__call__", wsgi.traced_call)]


def asgi_patches() -> list[Patch]:
    """What makes Django's ASGI applications trace their requests; needs `django.core.handlers.asgi`."""
    handlers = import_module("django.core.handlers.asgi")
    return [Patch(handlers.ASGIHandler, "__call__", asgi.traced_call)]


def channels_patches() -> list[Patch]:
    """What makes the router of Channels trace its connections; needs `channels.routing`."""
    return [Patch(import_module("channels.routing").ProtocolTypeRouter, "__call__", asgi.traced_call)]


def view_patches() -> list[Patch]:
    """What tells a request its route and its exception; needs `django.core.handlers.base`."""
    base = import_module("django.core.handlers.base")
    return [
        Patch(base.BaseHandler, "resolve_request", _resolve),
        Patch(import_module("django.core.handlers.exception"), "response_for_exception", _answer_to),
    ]


def _resolve(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def resolve_request(self: Any, request: Any) -> Any:
        match = original(self, request)
        try:
            if (found := _request_of(request)) is not None:
                found.routed("/" + match.route.removeprefix("^").removeprefix("/"))
        except Exception as error:
            fuse.failed(error)
        return match

    return resolve_request


def _answer_to(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def response_for_exception(request: Any, exc: Exception) -> Any:
        response = original(request, exc)
        try:
            # Http404 and the like are answers in the form of exceptions.
            if response.status_code >= ERROR_STATUS and (found := _request_of(request)) is not None:
                found.failed(exc)
        except Exception as error:
            fuse.failed(error)
        return response

    return response_for_exception


def _request_of(request: Any) -> Request | None:
    """Ours, of a request of Django's: in the environment of WSGI, in the scope of ASGI."""
    scope = getattr(request, "scope", None)
    found = (request.META if scope is None else scope).get(REQUEST)
    return found if isinstance(found, Request) else None
