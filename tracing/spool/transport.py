"""One batch -> one HTTP request -> how far the collector has it. ARCHITECTURE.md, "Native ingest".

`http.client` and nothing else: no instrumentation of ours or of others traces it, no proxy setting of the
program reaches it, and it logs nothing.
"""

from __future__ import annotations

import gzip
import http.client
import math
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from tracing.errors import ConfigurationError, PermanentExportError, RetryableExportError
from tracing.spool.limits import ShipperLimits
from tracing.spool.reader import Batch

RECORDS_PATH: Final = "/v1/records"
FORMAT_VERSION: Final = "1"
PROBLEM_TYPE: Final = "application/problem+json"  # RFC 9457; what a collector refuses with
LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_COMPRESS_BYTES_MIN: Final = 1024  # below, a packet is a packet

Compress = Callable[[bytes], bytes]


class Acknowledgement(NamedTuple):
    """What a collector has of a batch."""

    offset: int  # first byte that is not yet durable there; after the batch's own first one
    refused: int  # lines before it that the collector could not take


class RequestTooLarge(PermanentExportError):
    """The collector takes smaller requests only."""


class Transport:
    """A keep-alive connection to one collector. Not thread-safe.

    Raises:
        ConfigurationError: the URL is none, or not HTTP.
    """

    def __init__(self, url: str, token: str | None, limits: ShipperLimits) -> None:
        parts = _checked(url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._is_tls = parts.scheme == "https"
        self._path = parts.path.rstrip("/") + RECORDS_PATH
        self._limits = limits
        self._headers = {"Content-Type": "application/x-ndjson", "Backtrail-Format": FORMAT_VERSION}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        # On loopback, bytes are cheaper than the program's CPU.
        self._encoding = None if self._host in LOOPBACK_HOSTS else best_encoding()
        self._connection: http.client.HTTPConnection | None = None

    def send(self, batch: Batch) -> Acknowledgement:
        """Bring one batch to the collector; returns after the records are durable there.

        Raises:
            RetryableExportError: not now; with `retry_after_s` when the collector said when.
            RequestTooLarge: the same lines may do in smaller requests.
            PermanentExportError: never; the batch is to be given up.
        """
        headers = {
            **self._headers,
            "Backtrail-Spool": batch.spool_id,
            "Backtrail-Offset": str(batch.offset),
        }
        body = batch.header + batch.data
        if self._encoding is not None and len(body) >= _COMPRESS_BYTES_MIN:
            headers["Content-Encoding"], compress = self._encoding
            body = compress(body)
        status, answer_headers, answer = self._exchange(body, headers)
        if status == 200:
            return _acknowledged(answer, batch)
        if status == 415 and self._encoding is not None:
            self._encoding = None
            raise RetryableExportError("the collector does not know our compression", retry_after_s=0.0)
        message = f"status {status}: {answer[:200].decode(errors='replace')}"
        if status == 413:
            raise RequestTooLarge(message)
        if status in (400, 422) and answer_headers.get_content_type() == PROBLEM_TYPE:
            raise PermanentExportError(message)
        # Also a 400 of something that is no collector, also 401, 403 and 404: somebody mends the token or
        # the URL, and nothing is lost meanwhile.
        raise RetryableExportError(message, retry_after_s=_retry_after_s(answer_headers, self._limits))

    def close(self) -> None:
        """Close the connection; the next `send` opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, body: bytes, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Send the request and read the answer, once more when a kept connection had been closed."""
        while True:
            was_kept = self._connection is not None
            try:
                connection = self._connection = self._connection or self._connect()
                connection.request("POST", self._path, body, headers)
                response = connection.getresponse()
                answer = response.read(self._limits.answer_bytes_max + 1)
                if len(answer) > self._limits.answer_bytes_max:
                    raise RetryableExportError(
                        f"an answer of more than {self._limits.answer_bytes_max} bytes"
                    )
                if response.will_close:
                    self.close()
                return response.status, response.headers, answer
            except RetryableExportError:
                self.close()
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                if was_kept and isinstance(error, ConnectionError):
                    continue  # the collector had closed an idle connection, as it may at any time
                raise RetryableExportError(f"{type(error).__name__}: {error}") from error

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self._limits.request_timeout_s)


def best_encoding() -> tuple[str, Compress]:
    """Return the name and the function of the best compression that is installed."""
    try:
        from compression import zstd  # Python 3.14

        return "zstd", lambda data: zstd.compress(data, 1)
    except ImportError:
        pass
    try:
        import zstandard

        return "zstd", zstandard.ZstdCompressor(level=1).compress
    except ImportError:
        return "gzip", lambda data: gzip.compress(data, 1, mtime=0)


def _checked(url: str) -> Any:
    """Split a collector's URL.

    Raises:
        ConfigurationError: it cannot be used; the message says what would be.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"collector URL {url!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigurationError(f"collector URL {url!r}: expected http://host:port or https://host:port")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(f"collector URL of {parts.hostname}: no user, query or fragment is used")
    return parts


def _acknowledged(answer: bytes, batch: Batch) -> Acknowledgement:
    """Read the answer; whatever is not one is an error to try again after, never an acknowledgement.

    Raises:
        RetryableExportError: no answer of a collector, or one that does not fit the request.
    """
    try:
        fields = orjson.loads(answer)
        offset, refused = fields["acknowledged_offset"], len(fields.get("refused", ()))
    except (orjson.JSONDecodeError, AttributeError, TypeError, KeyError):
        raise RetryableExportError(f"not a collector's answer: {answer[:80]!r}") from None
    if type(offset) is not int or offset <= batch.offset:
        raise RetryableExportError(f"acknowledged {offset!r} of a batch that begins at {batch.offset}")
    if offset >= batch.end_offset:
        return Acknowledgement(
            batch.end_offset, refused
        )  # it may know more than we sent just now; we go on from what we know
    if batch.data[offset - batch.offset - 1 : offset - batch.offset] != b"\n":
        raise RetryableExportError(f"acknowledged {offset}, which is in the middle of a line")
    return Acknowledgement(offset, refused)


def _retry_after_s(headers: http.client.HTTPMessage, limits: ShipperLimits) -> float | None:
    """Read `Retry-After`, seconds or a date (RFC 9110, 10.2.3); `None` when absent or nonsense."""
    text = headers.get("Retry-After")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            when = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), limits.retry_after_max_s)
