"""Access logs that a server writes after the request: each line in the trace of the request it is about.

uvicorn, Hypercorn, aiohttp and Tornado write theirs while the request is still current. The servers here
write it a moment later, in the same thread or task.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tracing.handoff import Patch
from tracing.instrumentation.server import latest


def gunicorn_patches() -> list[Patch]:
    """For gunicorn's own workers; needs `gunicorn.glogging`."""
    return [Patch(import_module("gunicorn.glogging").Logger, "access", _inside_latest)]


def granian_asgi_patches() -> list[Patch]:
    """For Granian's ASGI; needs `granian.asgi`."""
    return [Patch(import_module("granian.asgi"), "_build_access_logger", _builder)]


def granian_wsgi_patches() -> list[Patch]:
    """For Granian's WSGI; needs `granian.wsgi`."""
    return [Patch(import_module("granian.wsgi"), "_build_access_logger", _builder)]


def _inside_latest(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def access(*args: Any, **kwargs: Any) -> None:
        request = latest.get()
        if request is None:
            original(*args, **kwargs)
            return
        with request.current():
            original(*args, **kwargs)

    return access


def _builder(original: Callable[..., Callable[..., None]]) -> Callable[..., Callable[..., None]]:
    """What makes an access logger: those that it makes write inside the request."""

    @functools.wraps(original)
    def build(*args: Any, **kwargs: Any) -> Callable[..., None]:
        return _inside_latest(original(*args, **kwargs))

    return build
