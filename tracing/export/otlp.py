"""Any OpenTelemetry backend as the other side: the same spool and the same shipper, speaking OTLP.

Lines are on disk first, as with our own collector, so nothing is lost when the program is killed or the
backend is away. OTLP has no word for "I had this already": a batch whose answer got lost is sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import orjson

from tracing.errors import ConfigurationError, PermanentExportError, RetryableExportError
from tracing.export.otlp_json import count, requests
from tracing.settings import NO_TLS_FILES, TlsFiles
from tracing.spool import Shipper, ShipperLimits, SpoolLimits, open_spool
from tracing.spool.format import SegmentHeader
from tracing.spool.http import Poster, checked_url
from tracing.spool.reader import Batch, whole_lines
from tracing.spool.tls import context_for
from tracing.spool.transport import Acknowledgement, RequestTooLarge

GRPC_PORT: Final = 4317  # registered for OTLP over gRPC, as 4318 is for OTLP over HTTP
JSON_TYPE: Final = "application/json"
PROTOBUF_TYPE: Final = "application/x-protobuf"
_REJECTED: Final = {"logs": "rejectedLogRecords", "traces": "rejectedSpans"}


class OtlpPoster(Protocol):
    """Sends one request of one signal."""

    def export(self, signal: str, request: Mapping[str, Any]) -> int:
        """Send it; return how many of its records the backend refused.

        Raises:
            ExportError: as the answer says.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class HttpPoster:
    """OTLP over HTTP: JSON, and protobuf once the backend has said that it does not take JSON."""

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        limits: ShipperLimits,
        headers: Mapping[str, str] | None = None,
        tls_files: TlsFiles = NO_TLS_FILES,
    ) -> None:
        self._poster = Poster(endpoint, token, limits, headers, context_for(endpoint, tls_files))
        self._retry_after_max_s = limits.retry_after_max_s
        self._type = JSON_TYPE

    def export(self, signal: str, request: Mapping[str, Any]) -> int:
        """Send one request to `/v1/logs` or `/v1/traces`; return how many records were refused.

        Raises:
            ExportError: as the status says (OTLP specification, "OTLP/HTTP Response").
        """
        body = orjson.dumps(request) if self._type == JSON_TYPE else _protobuf(signal, request)
        response = self._poster.post(f"/v1/{signal}", body, {"Content-Type": self._type})
        if response.status == 200:
            return _rejected(signal, response.body) if self._type == JSON_TYPE else 0
        if response.status == 415 and (self._poster.compress_no_more() or self._type == JSON_TYPE):
            self._type = PROTOBUF_TYPE
            raise RetryableExportError(response.summary(), retry_after_s=0.0)
        if response.status == 413:
            raise RequestTooLarge(response.summary())
        if response.status in (400, 415, 422):
            raise PermanentExportError(response.summary())
        wait_s = response.retry_after_s(self._retry_after_max_s)
        raise RetryableExportError(response.summary(), retry_after_s=wait_s)

    def close(self) -> None:
        """Close the connection."""
        self._poster.close()


class OtlpCarrier:
    """A `Carrier` that translates each batch into OTLP requests, logs first. Not thread-safe."""

    def __init__(self, poster: OtlpPoster) -> None:
        self._poster = poster
        self._half_sent: tuple[str, int, int] | None = None  # spool id and offsets; its logs were taken

    def send(self, batch: Batch) -> Acknowledgement:
        """Bring one batch to the backend, whole; a request that it will never take counts as refused.

        Raises:
            RetryableExportError, RequestTooLarge: as the answer says.
        """
        data, are_logs_sent = batch.data, False
        if self._half_sent is not None and self._half_sent[:2] == (batch.spool_id, batch.offset):
            # The spool may have grown since: what was begun is finished first, and nothing sent twice.
            data, are_logs_sent = data[: self._half_sent[2] - batch.offset], True
        translated = requests(whole_lines(data), SegmentHeader.decode(batch.header).resource)
        refused, end_offset = translated.unreadable, batch.offset + len(data)
        if translated.logs is not None and not are_logs_sent:
            refused += self._export("logs", translated.logs)
            self._half_sent = batch.spool_id, batch.offset, end_offset
        if translated.traces is not None:
            refused += self._export("traces", translated.traces)
        self._half_sent = None
        return Acknowledgement(end_offset, refused)

    def _export(self, signal: str, request: Mapping[str, Any]) -> int:
        try:
            return self._poster.export(signal, request)
        except RequestTooLarge:
            raise
        except PermanentExportError:
            return count(request)

    def close(self) -> None:
        """Close the connection."""
        self._poster.close()


class OtlpExporter:
    """A sink whose lines go to an OpenTelemetry backend.

    Raises:
        ConfigurationError: the endpoint cannot be used.
    """

    def __init__(
        self,
        root: Path,
        *,
        service: str,
        resource: Mapping[str, Any],
        endpoint: str,
        token: str | None,
        protocol: str | None = None,
        headers: Mapping[str, str] | None = None,
        tls_files: TlsFiles = NO_TLS_FILES,
        ship: bool = True,
        spool_limits: SpoolLimits | None = None,
        limits: ShipperLimits | None = None,
    ) -> None:
        limits = limits or ShipperLimits()
        make_poster = poster_for(endpoint, token, limits, protocol, headers, tls_files)
        self.spool = open_spool(root, service=service, resource=resource, limits=spool_limits)
        self.shipper = Shipper(self.spool, lambda: OtlpCarrier(make_poster()), limits)
        self.write = self.spool.write  # nothing between the log call and the spool
        if ship:
            self.shipper.start()

    def flush(self, timeout_s: float) -> bool:
        """Wait until the backend has what was logged so far; False when `timeout_s` passed first."""
        return self.shipper.flush(timeout_s)

    def close(self, ended: str = "exit") -> None:
        """End the spool; what is unsent stays on disk for the next process of the service."""
        self.spool.close(ended)
        if ended != "exit":
            self.shipper.stop(0.0)

    def stats(self) -> dict[str, int]:
        """Return the counts of the spool and of the shipper."""
        return self.spool.stats() | self.shipper.stats()


def poster_for(
    endpoint: str,
    token: str | None,
    limits: ShipperLimits,
    protocol: str | None = None,
    headers: Mapping[str, str] | None = None,
    tls_files: TlsFiles = NO_TLS_FILES,
) -> Callable[[], OtlpPoster]:
    """Return what makes the connection.

    Args:
        protocol: "grpc" or "http"; `None`: gRPC on port 4317, else HTTP.
        headers: that go with each request, and count more than the token.
        tls_files: for `https://`.
    Raises:
        ConfigurationError: not a URL, a file that cannot be used, or gRPC is asked for and not installed.
    """
    parts = checked_url(endpoint)
    context_for(endpoint, tls_files)  # a file that cannot be used stops the start, not the thread
    port = parts.port or GRPC_PORT
    if protocol == "http" or (protocol is None and parts.port != GRPC_PORT):
        return lambda: HttpPoster(endpoint, token, limits, headers, tls_files)
    try:
        from tracing.export.otlp_proto import GrpcPoster
    except ImportError:
        raise ConfigurationError(
            f"otlp_endpoint={endpoint!r}: gRPC, which port {GRPC_PORT} or otlp_protocol asks for, needs "
            "opentelemetry-exporter-otlp-proto-grpc; or give the HTTP endpoint, usually port 4318"
        ) from None
    target = f"{parts.hostname}:{port}"
    return lambda: GrpcPoster(
        target,
        tls_files=tls_files if parts.scheme == "https" else None,
        token=token,
        headers=headers or {},
        timeout_s=limits.request_timeout_s,
    )


def _protobuf(signal: str, request: Mapping[str, Any]) -> bytes:
    """Encode for a backend that does not take JSON.

    Raises:
        RetryableExportError: that cannot be done here; the message says what to install.
    """
    try:
        from tracing.export.otlp_proto import message
    except ImportError:
        raise RetryableExportError(
            "the backend takes protobuf only: pip install opentelemetry-exporter-otlp-proto-grpc"
        ) from None
    encoded: bytes = message(signal, request).SerializeToString()
    return encoded


def _rejected(signal: str, answer: bytes) -> int:
    """Read how many records a backend did not take; an answer that says nothing means: none."""
    try:
        return int(orjson.loads(answer).get("partialSuccess", {}).get(_REJECTED[signal], 0))
    except (orjson.JSONDecodeError, AttributeError, TypeError, ValueError):
        return 0
