"""What is turned on for which library: our own patches for servers, OpenTelemetry's for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from tracing.handoff import Patch

_CONTRIB: Final = "opentelemetry.instrumentation."


@dataclass(frozen=True, slots=True)
class Entry:
    """One library.

    Attributes:
        library: the module whose import turns it on.
        module: of OpenTelemetry's instrumentation, which is used where we have no patches.
        classes: the instrumentors in it; where somebody else has turned one on, we stay away.
        patches: makes our own, once the library is imported.
    """

    name: str
    library: str
    module: str
    classes: tuple[str, ...]
    patches: Callable[[], list[Patch]] | None = None


def _own(name: str, library: str, instrumentor: str, patches: Callable[[], list[Patch]]) -> Entry:
    return Entry(name, library, f"{_CONTRIB}{name}", (instrumentor,), patches)


def _contrib(name: str, library: str, *classes: str, module: str | None = None) -> Entry:
    return Entry(name, library, f"{_CONTRIB}{module or name}", classes)


def _starlette() -> list[Patch]:
    from tracing.instrumentation.asgi import starlette_patches

    return starlette_patches(import_module("starlette.applications"), import_module("starlette.routing"))


def _flask() -> list[Patch]:
    from tracing.instrumentation.wsgi import flask_patches

    flask: Any = import_module("flask")
    return flask_patches(flask)


# In the order in which they are turned on. An HTTP library under another one comes after it.
ENTRIES: Final = (
    _own(
        "starlette", "starlette.applications", "StarletteInstrumentor", _starlette
    ),  # FastAPI is built on it
    _own("flask", "flask", "FlaskInstrumentor", _flask),
    _contrib("celery", "celery", "CeleryInstrumentor"),
    _contrib("grpc", "grpc", "GrpcInstrumentorClient", "GrpcInstrumentorServer"),
    _contrib("grpc-aio", "grpc.aio", "GrpcAioInstrumentorClient", "GrpcAioInstrumentorServer", module="grpc"),
    _contrib("httpx", "httpx", "HTTPXClientInstrumentor"),
    _contrib("requests", "requests", "RequestsInstrumentor"),
    _contrib("aiohttp-client", "aiohttp", "AioHttpClientInstrumentor", module="aiohttp_client"),
    _contrib("urllib", "urllib.request", "URLLibInstrumentor"),
    _contrib("urllib3", "urllib3", "URLLib3Instrumentor"),
)
