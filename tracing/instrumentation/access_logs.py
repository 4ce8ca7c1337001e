"""Access logs that a server writes after the request: each line in the trace of the request it is about.

uvicorn, Hypercorn, aiohttp and Tornado write theirs while the request is still current; the servers here do
not, so we let them write inside the request that lies in the environment or scope.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tracing.handoff import Patch
from tracing.instrumentation import wsgi
from tracing.instrumentation.server import REQUEST, Request


def gunicorn_patches() -> list[Patch]:
    """For gunicorn's own workers; needs `gunicorn.glogging`."""
    return [Patch(import_module("gunicorn.glogging").Logger, "access", _gunicorn_access)]


def granian_asgi_patches() -> list[Patch]:
    """For Granian's ASGI; needs `granian.asgi`."""
    return [Patch(import_module("granian.asgi"), "_build_access_logger", _granian_builder(_request_in))]


def granian_wsgi_patches() -> list[Patch]:
    """For Granian's WSGI, whose logger does not get the environment; needs `granian.wsgi`."""
    find = _granian_builder(lambda _scope: wsgi.latest.request)
    return [Patch(import_module("granian.wsgi"), "_build_access_logger", find)]


def _request_in(environment: Any) -> Request | None:
    found = environment.get(REQUEST) if isinstance(environment, dict) else None
    return found if isinstance(found, Request) else None


def _gunicorn_access(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def access(self: Any, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        request = _request_in(environ)
        if request is None:
            original(self, resp, req, environ, request_time)
            return
        with request.current():
            original(self, resp, req, environ, request_time)

    return access


def _granian_builder(find: Callable[[Any], Request | None]) -> Callable[..., Any]:
    """Wrap what makes an access logger, so that the loggers it makes look for the request first."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def build(*args: Any, **kwargs: Any) -> Callable[..., None]:
            write: Callable[..., None] = original(*args, **kwargs)

            def access(received_s: float, started_s: float, scope: Any, *rest: Any) -> None:
                request = find(scope)
                if request is None:
                    write(received_s, started_s, scope, *rest)
                    return
                with request.current():
                    write(received_s, started_s, scope, *rest)

            return access

        return build

    return wrap
