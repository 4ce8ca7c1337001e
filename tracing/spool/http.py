"""A keep-alive connection to one server, by `http.client` and nothing else.

No instrumentation of ours or of others traces it, no proxy setting of the program reaches it, and it logs
nothing.
"""

from __future__ import annotations

import gzip
import http.client
import math
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from tracing.errors import ConfigurationError, RetryableExportError
from tracing.spool.limits import ShipperLimits

LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_COMPRESS_BYTES_MIN: Final = 1024  # below, a packet is a packet


class Response(NamedTuple):
    """A server's answer, read whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def summary(self) -> str:
        """What to tell a person about an answer that was not hoped for."""
        return f"status {self.status}: {self.body[:200].decode(errors='replace')}"

    def retry_after_s(self, seconds_max: float) -> float | None:
        """Read `Retry-After`, seconds or a date (RFC 9110, 10.2.3); `None` when absent or nonsense.

        Args:
            seconds_max: more than that is not believed, and taken as this.
        """
        text = self.headers.get("Retry-After")
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
        return min(max(seconds, 0.0), seconds_max) if math.isfinite(seconds) else None


class Poster:
    """Sends request after request over one connection. Not thread-safe.

    Args:
        token: bearer token; `None`: none is sent.
        headers: that go with each request, and count more than the token.
        tls: for `https://`; `None`: the system's authorities, and no certificate of ours.
    Raises:
        ConfigurationError: the URL is none, or not HTTP.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        limits: ShipperLimits,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = checked_url(url)
        self._host = parts.hostname or ""
        self._port = parts.port
        self._is_tls = parts.scheme == "https"
        self._tls = tls
        self._base = parts.path.rstrip("/")
        self._limits = limits
        self._own_headers = dict(headers or {})
        if token and "authorization" not in map(str.lower, self._own_headers):
            self._own_headers["Authorization"] = f"Bearer {token}"
        # On loopback, bytes are cheaper than the program's CPU.
        self._encoding = None if self._host in LOOPBACK_HOSTS else best_encoding()
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """Send one request, compressed where that is worth it, and read the answer.

        Args:
            path: is put after the URL's own path.
        Raises:
            RetryableExportError: there was no whole answer.
        """
        sent = {**self._own_headers, **headers}
        encoding = self._encoding
        if encoding is not None and len(body) >= _COMPRESS_BYTES_MIN:
            sent["Content-Encoding"], compress = encoding
            body = compress(body)
        while True:
            was_kept = self._connection is not None
            try:
                return self._exchange(self._base + path, body, sent)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                if was_kept and isinstance(error, ConnectionError):
                    continue  # the server had closed an idle connection, as it may at any time
                raise RetryableExportError(f"{type(error).__name__}: {error}") from error

    def compress_no_more(self) -> bool:
        """Send bodies as they are from now on; return whether they were compressed so far."""
        was_compressing = self._encoding is not None
        self._encoding = None
        return was_compressing

    def close(self) -> None:
        """Close the connection; the next `post` opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        connection = self._connection = self._connection or self._connect()
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = response.read(self._limits.answer_bytes_max + 1)
        if len(answer) > self._limits.answer_bytes_max:
            raise http.client.HTTPException(f"an answer of over {self._limits.answer_bytes_max} bytes")
        if response.will_close:
            self.close()
        return Response(response.status, response.headers, answer)

    def _connect(self) -> http.client.HTTPConnection:
        timeout_s = self._limits.request_timeout_s
        if not self._is_tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        self._tls = self._tls or ssl.create_default_context()  # once, reading the system's takes a while
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._tls)


def best_encoding() -> tuple[str, Callable[[bytes], bytes]]:
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


def checked_url(url: str) -> SplitResult:
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
