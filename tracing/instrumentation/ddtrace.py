"""Beside ddtrace: of two tracers, one speaks for a request.

By default ddtrace sends a `traceparent` as well as its own headers. Where a client's headers become lines
beside each other, such as in `http.client`, a request then carries two, and a server that follows the
standard takes neither. So ddtrace leaves the standard's headers as they are where some are there already;
its own `x-datadog-…`, which its servers read first, go out as ever.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tracing.handoff import Patch
from tracing.instrumentation.server import fuse


def ddtrace_patches() -> list[Patch]:
    """What lets `traceparent` stand that is there already; needs `ddtrace.propagation.http`."""
    formats = import_module("ddtrace.propagation.http")
    return [Patch(formats._TraceContext, "_inject", _give_way)]


def _give_way(original: Any) -> Any:
    theirs: Callable[..., None] = original.__func__ if isinstance(original, staticmethod) else original

    @functools.wraps(theirs)
    def inject(span_context: Any, headers: Any) -> None:
        if not _names_a_parent(headers):
            theirs(span_context, headers)

    return staticmethod(inject)


def _names_a_parent(headers: Any) -> bool:
    """Whether headers have a `traceparent`; urllib writes it with a capital letter."""
    try:
        return any(str(name).lower() == "traceparent" for name in headers)
    except Exception as error:
        fuse.failed(error)
        return False
