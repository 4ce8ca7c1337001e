"""CollectorClient: the API from Python, standard library only, never traced.

It has the methods of `Answers` with the same arguments, the same plain JSON objects as results and the
same errors, so that a program works alike on a running collector and on a data directory.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final, Self
from urllib.parse import quote, urlencode, urlsplit

from collector.errors import (
    CollectorError,
    NotFound,
    Overloaded,
    QueryError,
    Refused,
    Unreachable,
)
from tracing.line import format_timestamp

JsonObject = dict[str, Any]

DEFAULT_URL: Final = "http://127.0.0.1:4318"
# One import request: large enough that the fsync behind it does not count, small enough for any limit.
BATCH_BYTES_MAX: Final = 2 * 1024 * 1024
BATCH_RECORDS_MAX: Final = 10_000
# Longest wait that a collector may ask for before we try again.
RETRY_AFTER_S_MAX: Final = 10.0
_PIECE_BYTES: Final = 256 * 1024


class CollectorClient:
    """Asks a running collector, and imports records into it.

    Args:
        url: of the collector, for instance `http://127.0.0.1:4318`.
        token: bearer token for reading, if the collector wants one.
        ingest_token: bearer token for `import_records`; by default the same.
        admin_token: bearer token for `delete`; by default the same.
        timeout_s: longest wait for one answer.

    One instance keeps one connection open and belongs to one thread.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        ingest_token: str | None = None,
        admin_token: str | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise QueryError(f"{url!r}: a collector's URL looks like {DEFAULT_URL}")
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._prefix = parts.path.rstrip("/")
        self._token = token
        self._ingest_token = ingest_token or token
        self._admin_token = admin_token or token
        self._timeout_s = timeout_s
        try:
            port = parts.port
        except ValueError:
            raise QueryError(f"{url!r}: the port is not a number in 0..65535") from None
        if parts.scheme == "https":
            context = ssl.create_default_context()
            self._connect: Callable[[], http.client.HTTPConnection] = partial(
                http.client.HTTPSConnection, parts.hostname, port, timeout=timeout_s, context=context
            )
        else:
            self._connect = partial(http.client.HTTPConnection, parts.hostname, port, timeout=timeout_s)
        self._connection = self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go; a later call opens a new one."""
        self._connection.close()

    # ---------------------------------------------------------------- questions, as `Answers` has them

    def trace(self, trace_id: str) -> JsonObject:
        """The call chain of one trace.

        Raises:
            QueryError: not a trace id.
            NotFound: nothing is stored under it.
        """
        return self._get(f"/api/v1/traces/{quote(trace_id, safe='')}")

    def traces(
        self,
        q: str = "",
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        service: str | None = None,
        operation: str | None = None,
        min_duration: str | int | None = None,
        error: bool | None = None,
        limit: int = 20,
    ) -> JsonObject:
        """Traces with a record that matches, newest first; see `Answers.traces`."""
        return self._get(
            "/api/v1/traces",
            q=q or None,
            start=_time(start),
            end=_time(end),
            service=service,
            operation=operation,
            min_duration=f"{min_duration}ns" if isinstance(min_duration, int) else min_duration,
            error=error,
            limit=limit,
        )

    def logs(
        self,
        q: str = "",
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        service: str | None = None,
        level: str | None = None,
        trace_id: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        total: bool = False,
    ) -> JsonObject:
        """Records that match, newest first, a page at a time; see `Answers.logs`."""
        return self._get(
            "/api/v1/logs",
            q=q or None,
            start=_time(start),
            end=_time(end),
            service=service,
            level=level,
            trace_id=trace_id,
            limit=limit,
            cursor=cursor,
            total=total or None,
        )

    def root_cause(
        self, trace_id: str | None = None, *, start: str | int | None = None, end: str | int | None = None
    ) -> JsonObject:
        """What caused the fault of a trace, or of a time range; see `Answers.root_cause`."""
        return self._get("/api/v1/root-cause", trace_id=trace_id, start=_time(start), end=_time(end))

    def services(self, *, start: str | int | None = None, end: str | int | None = None) -> JsonObject:
        """Every service seen."""
        return self._get("/api/v1/services", start=_time(start), end=_time(end))

    def operations(
        self, service: str, *, start: str | int | None = None, end: str | int | None = None
    ) -> JsonObject:
        """Every operation of a service; of an unknown service: none."""
        return self._get(
            f"/api/v1/services/{quote(service, safe='')}/operations", start=_time(start), end=_time(end)
        )

    def topology(self, *, start: str | int | None = None, end: str | int | None = None) -> JsonObject:
        """Who calls whom."""
        return self._get("/api/v1/topology", start=_time(start), end=_time(end))

    def stats(self) -> JsonObject:
        """Counts and sizes; `records` counts logs and spans, each once."""
        return self._get("/api/v1/stats")

    def ledger(self) -> JsonObject:
        """What arrived of each process, and what is missing."""
        return self._get("/api/v1/ledger")

    # ---------------------------------------------------------------- answers in pieces

    def export(
        self,
        format: str = "ndjson",
        *,
        q: str = "",
        start: str | int | None = None,
        end: str | int | None = None,
        service: str | None = None,
        level: str | None = None,
        trace_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[bytes]:
        """Every record that matches, in a format for other tools, a piece at a time; see `Answers.export`.

        Raises:
            Unreachable: also in the middle, when the connection breaks off: the export is not whole then.
        """
        return self._stream(
            "/api/v1/logs/export",
            format=format,
            q=q or None,
            start=_time(start),
            end=_time(end),
            service=service,
            level=level,
            trace_id=trace_id,
            limit=limit,
        )

    def export_trace(self, trace_id: str) -> Iterator[bytes]:
        """One call chain for Perfetto and chrome://tracing, a piece at a time."""
        return self._stream(f"/api/v1/traces/{quote(trace_id, safe='')}/export")

    def tail(
        self,
        q: str = "",
        *,
        service: str | None = None,
        level: str | None = None,
        trace_id: str | None = None,
    ) -> Iterator[tuple[str, JsonObject]]:
        """Records as they become visible, without end; close the iterator to stop.

        Yields:
            `("record", record)`, or `("dropped", {"count"})` when we did not keep up.
        Raises:
            Unreachable: the collector has gone, or is silent beyond `timeout_s` (it speaks every 15 s).
        """
        pieces = self._stream(
            "/api/v1/logs/tail", q=q or None, service=service, level=level, trace_id=trace_id
        )
        event = ""
        for line in _lines(pieces):
            name, _, value = line.partition(b": ")
            if name == b"event":
                event = value.decode()
            elif name == b"data":
                yield event, _object(value)

    # ---------------------------------------------------------------- the service itself

    def health(self) -> JsonObject:
        """Whether the collector takes records in and makes them visible: `{"status", "detail"}`.

        Raises:
            Unreachable: nobody answers.
        """
        status, _, body = self._call("GET", "/readyz", token=self._token)
        if status not in (200, 503):
            raise _error_of(status, body)
        return _object(body)

    def wait_for_trace(
        self, trace_id: str, *, timeout_s: float = 10.0, complete: bool = False, poll_s: float = 0.1
    ) -> JsonObject:
        """The trace, as soon as it can be found; with `complete`, as soon as nothing more is expected.

        Raises:
            NotFound: it did not come in time; with `complete`, the message says what is missing.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            trace: JsonObject | None = None
            try:
                trace = self.trace(trace_id)
            except NotFound:
                pass
            if trace is not None and (not complete or trace["completeness"] == "complete"):
                return trace
            if time.monotonic() + poll_s > deadline:
                state = "not there" if trace is None else f"{trace['completeness']}: {_gaps(trace)}"
                raise NotFound(f"trace {trace_id}: after {timeout_s:g} s it is {state}")
            time.sleep(poll_s)

    # ---------------------------------------------------------------- import, delete

    def delete(
        self,
        q: str = "",
        *,
        start: str | int | None = None,
        end: str | int | None = None,
        service: str | None = None,
        level: str | None = None,
        trace_id: str | None = None,
    ) -> JsonObject:
        """Delete every record that matches, at once and for good: `{"deleted"}`.

        Raises:
            QueryError: an argument cannot be understood, or there is none.
        """
        return self._get(
            "/api/v1/logs",
            method="DELETE",
            token=self._admin_token,
            q=q or None,
            start=_time(start),
            end=_time(end),
            service=service,
            level=level,
            trace_id=trace_id,
        )

    def import_records(
        self, records: Iterable[tuple[str, bytes]], *, overloaded_s_max: float = 60.0
    ) -> JsonObject:
        """Import record lines; importing the same again changes nothing.

        Args:
            records: identity and line of each record, as `collector.receive.files` reads them.
            overloaded_s_max: how long to keep trying while the collector has no room.
        Returns:
            `{"stored", "refused"}`: how many were taken in, and the lines that were not, with reasons.
        Raises:
            Overloaded: there was no room for so long. What was sent before is stored.
        """
        stored = 0
        refused: list[JsonObject] = []
        for body in import_bodies(records):
            answer = self._post_import(body, time.monotonic() + overloaded_s_max)
            stored += answer["stored"]
            refused += answer["refused"]
        return {"stored": stored, "refused": refused}

    def _post_import(self, body: bytes, deadline: float) -> JsonObject:
        headers = {
            "Content-Type": "application/x-ndjson",
            "Backtrail-Format": "1",
            "Backtrail-Import": "1",
        }
        while True:
            status, _, answer = self._call("POST", "/v1/records", body, headers, token=self._ingest_token)
            if status == 200:
                return _object(answer)
            error = _error_of(status, answer)
            if not isinstance(error, Overloaded) or time.monotonic() + error.retry_after_s > deadline:
                raise error
            time.sleep(min(error.retry_after_s, RETRY_AFTER_S_MAX))

    # ---------------------------------------------------------------- the wire

    def _get(
        self,
        path: str,
        *,
        method: str = "GET",
        token: str | None = None,
        **parameters: str | int | bool | None,
    ) -> JsonObject:
        given = {key: _text(value) for key, value in parameters.items() if value is not None}
        query = f"?{urlencode(given)}" if given else ""
        status, _, body = self._call(method, path + query, token=token or self._token)
        if status != 200:
            raise _error_of(status, body)
        return _object(body)

    def _stream(self, path: str, **parameters: str | int | None) -> Iterator[bytes]:
        """The pieces of an answer, over a connection of its own."""
        given = {key: _text(value) for key, value in parameters.items() if value is not None}
        query = f"?{urlencode(given)}" if given else ""
        connection = self._connect()
        try:
            connection.request("GET", self._prefix + path + query, headers=self._headers(self._token))
            response = connection.getresponse()
            if response.status != 200:
                raise _error_of(response.status, response.read())
            while piece := response.read1(_PIECE_BYTES):
                yield piece
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.url}: {_reason(error, self._timeout_s)}") from error
        finally:
            connection.close()

    def _headers(self, token: str | None) -> dict[str, str]:
        headers = {"Accept": "*/*"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        token: str | None,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        sent = {**self._headers(token), **(headers or {})}
        fresh = self._connection.sock is None
        while True:
            try:
                self._connection.request(method, self._prefix + path, body=body, headers=sent)
                response = self._connection.getresponse()
                return response.status, response.headers, response.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                # A kept connection may have been closed by the other side in the meantime. All of our
                # calls may be repeated: questions change nothing, an import is known by its uids.
                if not fresh and not isinstance(error, TimeoutError):
                    fresh = True
                    continue
                raise Unreachable(f"{self.url}: {_reason(error, self._timeout_s)}") from error


def import_bodies(records: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """Cut records into request bodies for `Backtrail-Import`: each line carries its own `uid`.

    Args:
        records: identity and line of each record; a line without its newline is mended.
    """
    lines: list[bytes] = []
    size = 0
    for uid, line in records:
        line = line.strip()
        if line.endswith(b"}"):  # whatever else it is, the collector says best what is wrong with it
            # at the end, because readers of JSON take the last of two equal keys
            line = b'%b,"uid":%b}' % (line[:-1], json.dumps(uid).encode())
        lines.append(line + b"\n")
        size += len(lines[-1])
        if size >= BATCH_BYTES_MAX or len(lines) >= BATCH_RECORDS_MAX:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines


def _time(value: str | int | None) -> str | None:
    """A bare number would be taken for seconds or milliseconds, as people write them."""
    return format_timestamp(value) if isinstance(value, int) else value


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _object(body: bytes) -> JsonObject:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise CollectorError(f"not a collector's answer: {body[:80]!r}")
    return value


def _error_of(status: int, body: bytes) -> CollectorError:
    """The error that `Answers` would have raised, from the problem that the collector sent."""
    try:
        problem = _object(body)
    except CollectorError:
        problem = {"detail": f"HTTP status {status}, not a collector's answer: {body[:80]!r}"}
    detail = str(problem.get("detail") or problem.get("title") or f"HTTP status {status}")
    kind = str(problem.get("type", "")).rpartition(":")[2]
    match kind:
        case "not-found":
            return NotFound(detail)
        case "invalid-query" | "invalid-parameter":
            return QueryError(detail, position=problem.get("position"))
        case "overloaded" | "stopping":
            return Overloaded(detail, retry_after_s=float(problem.get("retry_after_s", 1.0)))
        case "bad-request" | "too-large" | "unsupported-media-type":
            return Refused(str(problem.get("reason", kind)), detail, field=problem.get("field"))
    if status in (429, 503):  # of a proxy between us
        return Overloaded(detail, retry_after_s=1.0)
    return CollectorError(detail)


def _reason(error: Exception, timeout_s: float) -> str:
    match error:
        case ConnectionRefusedError():
            return "nobody listens there; start a collector with `backtrail serve`, or name another --url"
        case TimeoutError():
            return f"no answer within {timeout_s:g} s"
        case socket.gaierror():
            return f"no such host: {error.strerror}"
        case _:
            return f"{type(error).__name__}: {error}"


def _gaps(trace: JsonObject) -> str:
    return "; ".join(gap["message"] for gap in trace["gaps"]) or "more may come"
