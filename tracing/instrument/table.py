"""Which instrumentation belongs to which library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_CONTRIB: Final = "opentelemetry.instrumentation."


@dataclass(frozen=True, slots=True)
class Entry:
    """One library, and the instrumentor classes of OpenTelemetry's that know it."""

    name: str
    library: str  # the module whose import turns the instrumentation on
    module: str
    classes: tuple[str, ...]


def _entry(name: str, library: str, *classes: str, module: str | None = None) -> Entry:
    return Entry(name, library, f"{_CONTRIB}{module or name}", classes)


# In the order in which they are turned on. An HTTP library under another one comes after it.
ENTRIES: Final = (
    _entry("fastapi", "fastapi", "FastAPIInstrumentor"),
    _entry("starlette", "starlette.applications", "StarletteInstrumentor"),
    _entry("flask", "flask", "FlaskInstrumentor"),
    _entry("celery", "celery", "CeleryInstrumentor"),
    _entry("grpc", "grpc", "GrpcInstrumentorClient", "GrpcInstrumentorServer"),
    _entry("grpc-aio", "grpc.aio", "GrpcAioInstrumentorClient", "GrpcAioInstrumentorServer", module="grpc"),
    _entry("httpx", "httpx", "HTTPXClientInstrumentor"),
    _entry("requests", "requests", "RequestsInstrumentor"),
    _entry("aiohttp-client", "aiohttp", "AioHttpClientInstrumentor", module="aiohttp_client"),
    _entry("urllib", "urllib.request", "URLLibInstrumentor"),
    _entry("urllib3", "urllib3", "URLLib3Instrumentor"),
)
