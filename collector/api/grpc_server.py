"""OTLP over gRPC: the three `Export` calls, in front of the same intake as OTLP over HTTP.

Messages pass through as bytes; only the intake takes them apart, once. Sources: OpenTelemetry protocol
1.9, "OTLP/gRPC"; grpc's google.rpc.Status and google.rpc.RetryInfo, written by hand because two fields
are not worth a dependency.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import unquote

import grpc

from collector.access.rates import SenderRates
from collector.access.tls import ServerTls
from collector.api.access import Access
from collector.api.ingest import PROTOBUF, varint
from collector.api.problems import Problem
from collector.errors import ConfigurationError, Overloaded, Refused
from collector.intake import Intake, OtlpAnswer

logger = logging.getLogger(__name__)

Take = Callable[[str | None, str | None, bytes], OtlpAnswer]

_SERVICE: Final = "opentelemetry.proto.collector.{signal}.v1.{name}Service"
_RESOURCE_EXHAUSTED: Final = 8
_UNAVAILABLE: Final = 14


class GrpcServer:
    """Takes OTLP over gRPC on one port, from threads of its own.

    Args:
        intake: takes the messages in; blocking.
        access: gives the tokens that count now, at each call.
        rates: how much each sender may send; used by this server alone.
        tls: our certificate; `None`: no TLS.
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
        rates: SenderRates,
        tls: ServerTls | None = None,
        host: str,
        port: int,
        message_bytes_max: int,
        threads_max: int,
        waiting_max: int,
    ) -> None:
        self._access = access
        self._rates = rates
        self._rates_lock = threading.Lock()
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
            self.port: int = (
                self._server.add_insecure_port(address)
                if tls is None
                else self._server.add_secure_port(address, _credentials(tls))
            )
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
            self._admit(context, len(message))
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

    def _admit(self, context: grpc.ServicerContext, size_bytes: int) -> None:
        headers = [(key.encode(), str(value).encode()) for key, value in context.invocation_metadata()]
        caller = self._access().admit("ingest", headers, address=_host_of(context.peer()))
        if isinstance(caller, Problem):
            denied = caller.kind == "forbidden"
            code = grpc.StatusCode.PERMISSION_DENIED if denied else grpc.StatusCode.UNAUTHENTICATED
            context.abort(code, caller.detail)
            raise AssertionError("abort always raises")
        with self._rates_lock:
            wait_s = self._rates.begin(caller.sender)
            if not wait_s:
                self._rates.charge(caller.sender, size_bytes)
        if wait_s:
            error = Overloaded(f"{caller.sender} has used up its share", retry_after_s=wait_s)
            details = retry_status(error, _RESOURCE_EXHAUSTED)
            context.set_trailing_metadata((("grpc-status-details-bin", details),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))


def _host_of(peer: str) -> str:
    """`ipv4:127.0.0.1:4317` as `127.0.0.1`, `ipv6:%5B::1%5D:4317` as `::1`: each connection has its port."""
    address = unquote(peer).partition(":")[2].rpartition(":")[0]
    return address.strip("[]")


def _credentials(tls: ServerTls) -> Any:
    """Our certificate for gRPC, which asks at each handshake whether it is another one."""
    given = tls.pem

    def configuration() -> Any:
        return grpc.ssl_server_certificate_configuration(
            [(given.key, given.chain)], root_certificates=given.client_ca
        )

    def renewed() -> Any:
        nonlocal given
        if tls.pem is given:
            return None
        given = tls.pem
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(), renewed, require_client_authentication=tls.asks_callers
    )


def retry_status(error: Overloaded, code: int = _UNAVAILABLE) -> bytes:
    """A `google.rpc.Status` whose details hold a `RetryInfo`, which tells the sender when to come back."""
    fraction, seconds = math.modf(error.retry_after_s)
    duration = _number(1, int(seconds)) + _number(2, int(fraction * 1e9))
    retry_info = _bytes(1, duration)
    detail = _bytes(1, b"type.googleapis.com/google.rpc.RetryInfo") + _bytes(2, retry_info)
    return _number(1, code) + _bytes(2, str(error).encode()) + _bytes(3, detail)


def _number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value
