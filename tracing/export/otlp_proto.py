"""OTLP in protobuf, for backends that do not take OTLP's JSON, and over gRPC.

Imported only when it is needed: both packages come with OpenTelemetry's own gRPC exporter
(`pip install opentelemetry-exporter-otlp-proto-grpc`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from tracing.errors import PermanentExportError, RetryableExportError
from tracing.settings import TlsFiles

_MESSAGES: Final = {"logs": ExportLogsServiceRequest, "traces": ExportTraceServiceRequest}
_STUBS: Final[dict[str, Any]] = {"logs": LogsServiceStub, "traces": TraceServiceStub}
_ID_KEYS: Final = frozenset({"traceId", "spanId", "parentSpanId"})
_channels: Final[Any] = grpc  # its functions and errors have no types
# Never to be taken, whoever asks (OTLP specification, "Failures"); a missing right may come.
_PERMANENT: Final = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.FAILED_PRECONDITION}
)


def message(signal: str, request: Mapping[str, Any]) -> Any:
    """Make the protobuf message of a request in OTLP's JSON.

    Args:
        signal: `logs` or `traces`.
    """
    return ParseDict(_with_base64_ids(request), _MESSAGES[signal](), ignore_unknown_fields=True)


class GrpcPoster:
    """Sends requests over one channel. Opens it with the first request, in the thread that sends.

    Args:
        tls_files: `None`: no TLS.
    """

    def __init__(
        self,
        target: str,
        *,
        tls_files: TlsFiles | None,
        token: str | None,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._target = target
        self._tls_files = tls_files
        # gRPC wants the names of its metadata in lower case.
        metadata = {name.lower(): value for name, value in (headers or {}).items()}
        if token:
            metadata.setdefault("authorization", f"Bearer {token}")
        self._metadata = tuple(metadata.items())
        self._timeout_s = timeout_s
        self._channel: Any = None

    def export(self, signal: str, request: Mapping[str, Any]) -> int:
        """Send one request; return how many of its records the backend refused.

        Raises:
            RetryableExportError, PermanentExportError: as the status says.
        """
        if self._channel is None:
            self._channel = (
                _channels.insecure_channel(self._target)
                if self._tls_files is None
                else _channels.secure_channel(self._target, _credentials(self._tls_files))
            )
        stub = _STUBS[signal](self._channel)
        try:
            answer = stub.Export(message(signal, request), timeout=self._timeout_s, metadata=self._metadata)
        except _channels.RpcError as error:
            self.close()
            text = f"{error.code().name}: {error.details()}"
            if error.code() in _PERMANENT:
                raise PermanentExportError(text) from error
            raise RetryableExportError(text) from error
        partial = answer.partial_success
        return int(partial.rejected_log_records if signal == "logs" else partial.rejected_spans)

    def close(self) -> None:
        """Close the channel; the next request opens another."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


def _credentials(files: TlsFiles) -> Any:
    """What checks the backend's certificate, and ours if it wants one."""
    ca, cert, key = (None if file is None else file.read_bytes() for file in files)
    return _channels.ssl_channel_credentials(ca, key or cert, cert)


def _with_base64_ids(value: Any) -> Any:
    """Protobuf's own JSON has bytes in base64, where OTLP's JSON has hex."""
    if isinstance(value, Mapping):
        return {
            key: base64.b64encode(bytes.fromhex(item)).decode() if key in _ID_KEYS else _with_base64_ids(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_with_base64_ids(item) for item in value]
    return value
