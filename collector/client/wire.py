"""How a client speaks HTTP to a collector: standard library only, never traced."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

from collector.access.tls import TlsFiles, client_context
from collector.errors import (
    CollectorError,
    NotFound,
    Overloaded,
    QueryError,
    Refused,
    TooCostly,
    Unreachable,
)

JsonObject = dict[str, Any]
Item = TypeVar("Item")

DEFAULT_URL: Final = "http://127.0.0.1:4318"
_PIECE_BYTES: Final = 256 * 1024


class Pieces(Iterator[bytes]):
    """The pieces of a long answer. An iterator that any thread may `close`.

    Raises, when a piece is drawn: `CollectorError` as `Answers` would have raised it, or `Unreachable`,
    also in the middle.
    """

    def __init__(
        self, begin: Callable[[], http.client.HTTPConnection], unreachable: Callable[[Exception], Unreachable]
    ) -> None:
        self._begin = begin
        self._unreachable = unreachable
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None
        self._closed = False

    def __next__(self) -> bytes:
        try:
            if self._response is None and not self._closed:
                self._connection = self._begin()
                self._response = self._connection.getresponse()
                if self._response.status != 200:
                    raise error_of(self._response.status, self._response.read())
            piece = b"" if self._closed or self._response is None else self._response.read1(_PIECE_BYTES)
        except (OSError, ValueError, http.client.HTTPException) as error:
            if not self._closed:
                self.close()
                raise self._unreachable(error) from error
            piece = b""
        except CollectorError:
            self.close()
            raise
        if not piece:
            self.close()
            raise StopIteration
        return piece

    def close(self) -> None:
        """End it, also while another thread waits for the next piece."""
        self._closed = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(
                    socket.SHUT_RDWR
                )  # a plain close would leave the other thread waiting
            connection.close()


class Stream(Iterator[Item]):
    """What is read from the pieces of an answer, one after the other; `close` it to stop early."""

    def __init__(self, pieces: Pieces, items: Iterator[Item]) -> None:
        self._pieces = pieces
        self._items = items

    def __next__(self) -> Item:
        return next(self._items)

    def close(self) -> None:
        """End it, also while another thread waits for the next item."""
        self._pieces.close()


class Wire:
    """One connection to a collector, opened when needed and kept. Belongs to one thread.

    Args:
        url: of the collector; `http://` may be left out, a path in front of the API may be there.
        timeout_s: longest wait for an answer, or for the next piece of one.
        tls_files: how the collector's certificate is checked, and ours; only for `https://`.
    Raises:
        QueryError: this is no URL.
        ConfigurationError: a file cannot be used.
    """

    def __init__(self, url: str, *, timeout_s: float, tls_files: TlsFiles = TlsFiles()) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        try:
            port = parts.port
        except ValueError:
            raise QueryError(f"{url!r}: the port is not a number in 0..65535") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise QueryError(f"{url!r}: a collector's URL looks like {DEFAULT_URL}")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._prefix = parts.path.rstrip("/")
        self._timeout_s = timeout_s
        self._connect: Callable[[], http.client.HTTPConnection] = partial(
            http.client.HTTPConnection, parts.hostname, port, timeout=timeout_s
        )
        if parts.scheme == "https":
            context = client_context(tls_files)
            self._connect = partial(
                http.client.HTTPSConnection, parts.hostname, port, timeout=timeout_s, context=context
            )
        self._connection = self._connect()

    def close(self) -> None:
        """Let the connection go; a later call opens a new one."""
        self._connection.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | bool | None] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        statuses: tuple[int, ...] = (200,),
    ) -> JsonObject:
        """The JSON object of an answer.

        Args:
            query: parameters; those that are `None` are left out.
            statuses: those that come with an answer rather than with a problem.
        Raises:
            CollectorError: as `Answers` would have raised it, or `Unreachable`.
        """
        status, answer = self._exchange(method, _target(self._prefix + path, query), body, headers, token)
        if status not in statuses:
            raise error_of(status, answer)
        return object_of(answer)

    def stream(
        self,
        path: str,
        *,
        query: Mapping[str, str | int | bool | None] | None = None,
        token: str | None = None,
    ) -> Pieces:
        """An answer in pieces, over a connection of its own; nothing is sent before the first is drawn."""

        def begin() -> http.client.HTTPConnection:
            connection = self._connect()
            connection.request("GET", _target(self._prefix + path, query), headers=_headers(None, token))
            return connection

        return Pieces(begin, self._unreachable)

    def _exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        token: str | None,
    ) -> tuple[int, bytes]:
        fresh = self._connection.sock is None
        while True:
            try:
                self._connection.request(method, target, body=body, headers=_headers(headers, token))
                response = self._connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                # A kept connection may have been closed by the other side in the meantime. All of our
                # calls may be repeated: questions change nothing, an import is known by its uids.
                if not fresh and not isinstance(error, TimeoutError):
                    fresh = True
                    continue
                raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> Unreachable:
        match error:
            case ConnectionRefusedError():
                reason = "nobody listens there; start a collector with `backtrail serve`, or name another URL"
            case ssl.SSLCertVerificationError():
                reason = f"its certificate is not trusted: {error.verify_message}; name its authority's file"
            case ssl.SSLError():
                reason = f"no secure connection: {error.reason}; it may want a certificate of yours"
            case TimeoutError():
                reason = f"no answer within {self._timeout_s:g} s"
            case socket.gaierror():
                reason = f"no such host: {error.strerror}"
            case _:
                reason = f"{type(error).__name__}: {error}"
        return Unreachable(f"{self.url}: {reason}")


def lines_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The whole lines of an answer that comes in pieces, without their newlines."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


def object_of(body: bytes) -> JsonObject:
    """The JSON object of a body.

    Raises:
        CollectorError: it is none.
    """
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CollectorError(f"not a collector's answer: {body[:80]!r}")
    return value


def error_of(status: int, body: bytes) -> CollectorError:
    """The error that `Answers` would have raised, from the problem that the collector sent."""
    try:
        problem = object_of(body)
    except CollectorError:
        problem = {"detail": f"HTTP status {status}, not a collector's answer: {body[:80]!r}"}
    detail = str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")
    kind = str(problem.get("type", "")).rpartition(":")[2]
    match kind:
        case "not-found":
            return NotFound(detail)
        case "invalid-query" | "invalid-parameter":
            return QueryError(detail, position=problem.get("position"))
        case "too-costly":
            return TooCostly(detail)
        case "took-too-long":
            return CollectorError(detail)
        case "overloaded" | "stopping" | "too-many-requests":
            return Overloaded(detail, retry_after_s=float(problem.get("retry_after_s", 1.0)))
        case "bad-request" | "too-large" | "unsupported-media-type":
            return Refused(str(problem.get("reason", kind)), detail, field=problem.get("field"))
    if status in (429, 503):  # of a proxy between us
        return Overloaded(detail, retry_after_s=1.0)
    return CollectorError(detail)


def address_of(url: str, path: str, query: Mapping[str, str | int | bool | None]) -> str:
    """The full address of an answer; parameters that are `None` are left out."""
    return url.rstrip("/") + _target(path, query)


def _target(path: str, query: Mapping[str, str | int | bool | None] | None) -> str:
    given = {key: _text(value) for key, value in (query or {}).items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _headers(headers: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    sent = {"Accept": "*/*", **(headers or {})}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    return sent
