"""OTLP over gRPC: a thin shell around `Intake.otlp_logs` and its kin.

Source: OpenTelemetry protocol 1.x, "OTLP/gRPC": full and partial success, and which failures are to be
sent again. The messages pass through as bytes; decoding them is the intake's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NoReturn

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from collector.errors import ConfigurationError, Overloaded, Refused
from collector.intake import Intake, OtlpAnswer
from collector.intake.intake import PROTOBUF

Headers = Iterable[tuple[bytes, bytes]]
Take = Callable[[str | None, str | None, bytes], OtlpAnswer]

_PREFIX: Final = "opentelemetry.proto.collector"
_DETAILS: Final = "grpc-status-details-bin"  # where gRPC carries a `google.rpc.Status`


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcLimits:
    """Bounds of the gRPC listener."""

    message_bytes_max: int = 16 * 1024**2  # gRPC's own default of 4 MiB is less than exporters may send
    threads_max: int = 4  # they wait for the disk; more would only queue at the same log
    calls_max: int = 64  # under way at once; beyond it senders are told to come back


class GrpcServer:
    """Takes OTLP logs, traces and metrics on a port of its own."""

    def __init__(
        self,
        intake: Intake,
        *,
        host: str,
        port: int,
        limits: GrpcLimits | None = None,
        refusal: Callable[[Headers], str | None] | None = None,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        """Take the address; `start` begins to answer.

        Args:
            intake: is given each message.
            host: name or address to listen on.
            port: 0 picks a free one, see `port`.
            limits: bounds; the defaults if `None`.
            refusal: says why a call with this metadata is not allowed, None: it is. Without it all are.
            credentials: for TLS; without them the port speaks plain text.
        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        limits = limits or GrpcLimits()
        self._refusal = refusal
        self._server = grpc.server(
            ThreadPoolExecutor(limits.threads_max, thread_name_prefix="backtrail-grpc"),
            options=[
                ("grpc.max_receive_message_length", limits.message_bytes_max),
                ("grpc.so_reuseport", 0),  # two collectors on one port would share the calls between them
            ],
            maximum_concurrent_rpcs=limits.calls_max,
        )
        for service, take in (
            (f"{_PREFIX}.logs.v1.LogsService", intake.otlp_logs),
            (f"{_PREFIX}.trace.v1.TraceService", intake.otlp_traces),
            (f"{_PREFIX}.metrics.v1.MetricsService", intake.otlp_metrics),
        ):
            self._server.add_generic_rpc_handlers([self._handler(service, take)])
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if credentials is None:
                self.port: int = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise ConfigurationError(f"grpc_port {port}: cannot listen on {address}: {error}") from None

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self, grace_s: float = 5.0) -> None:
        """Take no more calls, and wait so long for those that are under way."""
        self._server.stop(grace_s).wait()

    def _handler(self, service: str, take: Take) -> grpc.GenericRpcHandler:
        def export(message: bytes, context: grpc.ServicerContext) -> bytes:
            return self._export(take, message, context)

        method = grpc.unary_unary_rpc_method_handler(export)  # without serialisers: bytes in, bytes out
        handler: grpc.GenericRpcHandler = grpc.method_handlers_generic_handler(service, {"Export": method})
        return handler

    def _export(self, take: Take, message: bytes, context: grpc.ServicerContext) -> bytes:
        if self._refusal is not None:
            refusal = self._refusal(_headers(context))
            if refusal is not None:
                _abort(context, grpc.StatusCode.UNAUTHENTICATED, refusal)
        try:
            return take(PROTOBUF, None, message).body
        except Refused as error:
            # not to be sent again: it would be refused again
            _abort(context, grpc.StatusCode.INVALID_ARGUMENT, f"{error.reason}: {error}")
        except Overloaded as error:
            context.set_trailing_metadata([(_DETAILS, _come_back(error))])
            _abort(context, grpc.StatusCode.UNAVAILABLE, str(error))


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, message: str) -> NoReturn:
    context.abort(code, message)
    raise AssertionError("abort raises")  # its type does not say so


def _headers(context: grpc.ServicerContext) -> list[tuple[bytes, bytes]]:
    metadata: Iterable[tuple[str, str | bytes]] = context.invocation_metadata()
    return [
        (key.encode(), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
        for key, value in metadata
    ]


def _come_back(error: Overloaded) -> bytes:
    """A status with the time after which trying again makes sense, as OTLP wants it."""
    status = Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message=str(error))
    retry = RetryInfo()
    retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
    status.details.add().Pack(retry)
    details: bytes = status.SerializeToString()
    return details
