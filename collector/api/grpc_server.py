"""OTLP over gRPC: the three `Export` calls, in front of the same intake as OTLP over HTTP.

Messages pass through as bytes; only the intake takes them apart, once. Sources: OpenTelemetry protocol
1.9, "OTLP/gRPC"; grpc's google.rpc.Status and google.rpc.RetryInfo, written by hand because two fields
are not worth a dependency.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc

from collector.api.access import Access
from collector.api.ingest import PROTOBUF, varint
from collector.errors import ConfigurationError, Overloaded, Refused
from collector.intake import Intake, OtlpAnswer

logger = logging.getLogger(__name__)

Take = Callable[[str | None, str | None, bytes], OtlpAnswer]

_SERVICE: Final = "opentelemetry.proto.collector.{signal}.v1.{name}Service"
_UNAVAILABLE: Final = 14


class GrpcServer:
    """Takes OTLP over gRPC on one port, from threads of its own.

    Args:
        intake: takes the messages in; blocking.
        access: gives the tokens that count now, at each call.
        host: address to listen on.
        port: 0 picks a free one.
        message_bytes_max: longest message, unpacked.
        threads_max: messages that are taken in at once.
        waiting_max: messages that may wait for a thread; beyond, grpc answers RESOURCE_EXHAUSTED.
    Raises:
        ConfigurationError: the address cannot be listened on.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        access: Callable[[], Access],
        host: str,
        port: int,
        message_bytes_max: int,
        threads_max: int,
        waiting_max: int,
    ) -> None:
        self._access = access
        self._server = grpc.server(
            ThreadPoolExecutor(threads_max, thread_name_prefix="backtrail-grpc"),
            maximum_concurrent_rpcs=threads_max + waiting_max,
            options=[
                ("grpc.max_receive_message_length", message_bytes_max),
                ("grpc.so_reuseport", 0),  # or a second collector would share the port instead of failing
            ],
        )
        for signal, name, take in (
            ("logs", "Logs", intake.otlp_logs),
            ("trace", "Trace", intake.otlp_traces),
            ("metrics", "Metrics", intake.otlp_metrics),
        ):
            handler = grpc.unary_unary_rpc_method_handler(self._exporter(take))
            service = _SERVICE.format(signal=signal, name=name)
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, {"Export": handler}),)
            )
        address = f"[{host.strip('[]')}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self.port: int = self._server.add_insecure_port(address)
        except RuntimeError:
            raise ConfigurationError(
                f"cannot listen on {address} for gRPC: the port is in use, or not ours to take;"
                " name another grpc_port (0 picks a free one)"
            ) from None

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self, timeout_s: float) -> None:
        """Take nothing more; let what runs finish within the time."""
        self._server.stop(timeout_s).wait()

    def _exporter(self, take: Take) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def export(message: bytes, context: grpc.ServicerContext) -> bytes:
            self._check_access(context)
            try:
                return take(PROTOBUF, None, message).body
            except Refused as error:
                code, detail = grpc.StatusCode.INVALID_ARGUMENT, str(error)
            except Overloaded as error:
                context.set_trailing_metadata((("grpc-status-details-bin", retry_status(error)),))
                code, detail = grpc.StatusCode.UNAVAILABLE, str(error)
            except Exception as error:
                logger.exception("an OTLP/gRPC message failed")
                code, detail = grpc.StatusCode.INTERNAL, f"{type(error).__name__}; the log has the details"
            context.abort(code, detail)
            raise AssertionError("abort always raises")

        return export

    def _check_access(self, context: grpc.ServicerContext) -> None:
        headers = [(key.encode(), str(value).encode()) for key, value in context.invocation_metadata()]
        problem = self._access().refusal("ingest", headers)
        if problem is not None:
            denied = problem.kind == "forbidden"
            code = grpc.StatusCode.PERMISSION_DENIED if denied else grpc.StatusCode.UNAUTHENTICATED
            context.abort(code, problem.detail)


def retry_status(error: Overloaded) -> bytes:
    """A `google.rpc.Status` whose details hold a `RetryInfo`, which tells the sender when to come back."""
    fraction, seconds = math.modf(error.retry_after_s)
    duration = _number(1, int(seconds)) + _number(2, int(fraction * 1e9))
    retry_info = _bytes(1, duration)
    detail = _bytes(1, b"type.googleapis.com/google.rpc.RetryInfo") + _bytes(2, retry_info)
    return _number(1, _UNAVAILABLE) + _bytes(2, str(error).encode()) + _bytes(3, detail)


def _number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value
