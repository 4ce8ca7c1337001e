"""A service as the specification sees one: a request's headers come in, those of a call that it makes go out.

The same service behind each way that a request can come: ASGI, WSGI, and headers read by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import tracing

Headers = list[tuple[str, str]]
Service = Callable[[Headers], dict[str, str]]


def called() -> dict[str, str]:
    """The headers of a call, made inside a span of its own."""
    with tracing.span("call", kind="client"):
        headers: dict[str, str] = tracing.inject({})
    return headers


def by_asgi(headers: Headers) -> dict[str, str]:
    """The server gives raw headers in the order in which they came."""
    sent: dict[str, str] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        sent.update(called())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def send(message: Any) -> None:
        pass

    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": raw}
    asyncio.run(tracing.asgi(app)(scope, send, send))  # type: ignore[arg-type]  # nothing is received
    return sent


def by_wsgi(headers: Headers) -> dict[str, str]:
    """The server joins headers of one name by commas (RFC 9110, section 5.3)."""
    sent: dict[str, str] = {}

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        sent.update(called())
        start_response("200 OK", [])
        return [b""]

    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    for name, value in headers:
        key = f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    list(tracing.wsgi(app)(environ, lambda *_: None))
    return sent


def by_hand(headers: Headers) -> dict[str, str]:
    """The program reads them itself."""
    with tracing.extracted(headers), tracing.span("request", kind="server"):
        return called()


SERVICES: dict[str, Service] = {"asgi": by_asgi, "wsgi": by_wsgi, "by hand": by_hand}
