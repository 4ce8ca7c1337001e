"""Requests through WSGI: Flask by itself, any other application by `wsgi(app)`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from tracing import semconv as sc
from tracing.handoff import Patch
from tracing.instrumentation.server import (
    REQUEST,
    WANTED_HEADERS,
    Request,
    fuse,
    is_on_elsewhere,
    is_wanted,
    latest,
)
from tracing.propagation.x_trace_id import HEADER

Environ = dict[str, Any]
App = Callable[..., Iterable[bytes]]

_KEYS: Final = {f"HTTP_{name.upper().replace('-', '_')}": name for name in WANTED_HEADERS}


def wsgi(app: App) -> App:
    """Trace the requests of a WSGI application: `app = tracing.wsgi(app)`.

    The trace of the caller goes on, the answer has the header `X-Trace-ID`. Flask needs no wrapping when
    `instrument()` was called.
    """

    def traced(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        return serve(app, environ, start_response)

    return traced


def serve(app: App, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Let an application answer one request inside a span."""
    request = _begun(environ)
    if request is None:
        return app(environ, start_response)
    try:
        parts = app(environ, _answer(request, start_response))
    except BaseException as error:
        request.failed(error)
        request.leave()
        raise
    # What is complete needs nobody to wait for its end; a file goes to the server as it is, which may
    # have a quicker way for it.
    file_wrapper = environ.get("wsgi.file_wrapper")
    if parts.__class__ in (list, tuple) or (
        isinstance(file_wrapper, type) and isinstance(parts, file_wrapper)
    ):
        request.leave()
        return parts
    return _Parts(request, parts)


def _begun(environ: Environ) -> Request | None:
    """Start the span of a request; `None`: it has one, or we cannot."""
    if REQUEST in environ:
        return None
    latest.set(None)
    try:
        if not is_wanted(environ.get("PATH_INFO", "")):
            return None
        request = Request(environ.get("REQUEST_METHOD", "GET"))
        headers = {name: environ[key] for key, name in _KEYS.items() if key in environ}
        request.begin(headers, _attributes(environ))
        environ[REQUEST] = request
        latest.set(request)
        return request
    except Exception as error:
        fuse.failed(error)
        return None


def _attributes(environ: Environ) -> dict[str, Any]:
    found: dict[str, Any] = {
        "url.scheme": environ.get("wsgi.url_scheme", "http"),
        "url.path": environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""),
    }
    for key, name in (
        ("QUERY_STRING", "url.query"),
        ("SERVER_NAME", sc.SERVER_ADDRESS),
        ("REMOTE_ADDR", "client.address"),
    ):
        if value := environ.get(key):
            found[name] = value
    port = environ.get("SERVER_PORT", "")
    if str(port).isdigit():
        found["server.port"] = int(port)
    if protocol := environ.get("SERVER_PROTOCOL"):
        found["network.protocol.version"] = protocol.rpartition("/")[2]
    return found


def _answer(request: Request, start_response: Callable[..., Any]) -> Callable[..., Any]:
    """A `start_response` that sees the status and adds the trace id."""

    def started(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        try:
            request.status = int(status.split(" ", 1)[0])
            known = {name.lower(): value for name, value in headers}
            if known.get("content-length", "").isdigit():
                request.answer_bytes = int(known["content-length"])
            if (trace_id := request.trace_id) is not None and HEADER.lower() not in known:
                headers = [*headers, (HEADER, trace_id)]
        except Exception as error:
            fuse.failed(error)
        return start_response(status, headers, *exc_info)

    return started


class _Parts:
    """The body of an answer; the span lasts until its last part goes, or the server closes it."""

    def __init__(self, request: Request, parts: Iterable[bytes]) -> None:
        self._request = request
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        request = self._request
        left = request.answer_bytes
        try:
            for part in self._parts:
                left -= len(part)
                if left == 0:  # before the last part goes, so that the caller's span cannot end earlier
                    request.end()
                yield part
        except BaseException as error:
            if not isinstance(error, GeneratorExit):
                request.failed(error)
            raise

    def __len__(self) -> int:
        return len(self._parts)  # type: ignore[arg-type]  # servers ask, to know the length of a short answer

    def close(self) -> None:
        """Called by the server in any case (PEP 3333)."""
        try:
            close = getattr(self._parts, "close", None)
            if close is not None:
                close()
        finally:
            self._request.leave()


# ---------------------------------------------------------------- Flask


def flask_patches(flask: Any) -> list[Patch]:
    """What makes every Flask application trace its requests, those made before too."""
    return [
        Patch(flask.Flask, "__call__", traced_call),
        Patch(flask.Flask, "full_dispatch_request", _dispatch),
    ]


def traced_call(original: Callable[..., Any]) -> Callable[..., Any]:
    """The `__call__` of a class of WSGI applications, with a span around each request."""

    @functools.wraps(original)
    def call(self: Any, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if is_on_elsewhere(self):
            return original(self, environ, start_response)  # type: ignore[no-any-return]
        return serve(functools.partial(original, self), environ, start_response)

    return call


def _dispatch(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def full_dispatch_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = _flask_request()
        try:
            return original(self, *args, **kwargs)
        except Exception as error:
            # Flask makes an answer of it, so it never leaves the application.
            if request is not None:
                request.failed(error)
            raise

    return full_dispatch_request


def _flask_request() -> Request | None:
    """Our request of Flask's current one, with its route."""
    try:
        import flask

        request: Request | None = flask.request.environ.get(REQUEST)
        if request is not None and flask.request.url_rule is not None:
            request.routed(flask.request.url_rule.rule)
        return request
    except Exception as error:
        fuse.failed(error)
        return None
