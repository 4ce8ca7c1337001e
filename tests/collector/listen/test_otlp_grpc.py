"""OTLP/gRPC with the stock exporters and with raw calls, over a real port."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from collector.errors import ConfigurationError
from collector.intake import Intake, open_log
from collector.listen.otlp_grpc import GrpcLimits, GrpcServer
from collector.wal import Wal, WalLimits

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


class Running:
    """A server on a log of its own."""

    def __init__(self, directory: Path, *, wal: WalLimits | None = None, **server: Any) -> None:
        self.wal, self.ledger = open_log(
            directory, durable_seq=0, wal_limits=wal or WalLimits(disk_free_bytes_min=0)
        )
        self.server = GrpcServer(Intake(self.wal, self.ledger), host="127.0.0.1", port=0, **server)
        self.server.start()
        self.address = f"127.0.0.1:{self.server.port}"

    def call(self, method: str, message: bytes, metadata: Any = None) -> bytes:
        with grpc.insecure_channel(self.address) as channel:
            answer: bytes = channel.unary_unary(method)(message, timeout=30, metadata=metadata)
            return answer

    def close(self) -> None:
        self.server.stop(1.0)
        self.wal.close()
        self.ledger.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    one = Running(tmp_path)
    yield one
    one.close()


def lines(wal: Wal) -> list[dict[str, Any]]:
    return [json.loads(text) for frame in wal.read(0, 10**6) for text in frame.split()]


def span_request(span_id: int = 1) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(
        trace_id=b"t" * 16, span_id=span_id.to_bytes(8, "big"), name="n", start_time_unix_nano=5
    )
    return request


def test_a_stock_program_is_complete(running: Running) -> None:
    """Spans and logs of the SDK through its gRPC exporters, compressed, in one trace."""
    resource = Resource({"service.name": "stock"})
    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(
        BatchSpanProcessor(
            OTLPSpanExporter(running.address, insecure=True, compression=grpc.Compression.Gzip)
        )
    )
    logging = LoggerProvider(resource=resource)
    logging.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(endpoint=running.address, insecure=True))
    )
    tracer, logger = tracing.get_tracer("t"), logging.get_logger("l")
    with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
        for number in range(10):
            logger.emit(body=f"line {number}", severity_number=SeverityNumber.INFO)
    assert tracing.force_flush() and logging.force_flush()
    tracing.shutdown()
    logging.shutdown()
    found = lines(running.wal)
    assert sorted(one["name"] for one in found if one.get("kind") == "span") == ["inner", "outer"]
    assert [one["message"] for one in found if "kind" not in one] == [f"line {n}" for n in range(10)]
    assert len({one["trace_id"] for one in found}) == 1
    assert {one["service"] for one in found} == {"stock"}


def test_what_is_refused_is_told_as_a_partial_success(running: Running) -> None:
    """The call succeeds, and says what it did not take."""
    request = span_request()
    request.resource_spans[0].scope_spans[0].spans.add(name="no ids", start_time_unix_nano=5)
    answer = ExportTraceServiceResponse.FromString(running.call(TRACES, request.SerializeToString()))
    assert answer.partial_success.rejected_spans == 1
    assert "trace_id" in answer.partial_success.error_message
    assert len(lines(running.wal)) == 1


def test_metrics_are_answered_and_dropped(running: Running) -> None:
    """A sender with all three signals on one address must not be in trouble."""
    answer = ExportMetricsServiceResponse.FromString(running.call(METRICS, b""))
    assert "not kept" in answer.partial_success.error_message


def test_what_can_never_be_taken_is_not_to_be_sent_again(running: Running) -> None:
    """By the list of OTLP: INVALID_ARGUMENT is final."""
    with pytest.raises(grpc.RpcError) as error:
        running.call(TRACES, b"\xff\xff")
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "bad_body" in error.value.details()
    with pytest.raises(grpc.RpcError) as error:
        running.call(TRACES.replace("Export", "Import"), b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_full_log_asks_to_come_back(tmp_path: Path) -> None:
    """UNAVAILABLE with a delay, which the stock exporters honour."""
    limits = WalLimits(
        bytes_max=4096, segment_bytes_max=4096, frame_bytes_max=1024, disk_free_bytes_min=0, retry_after_s=7.5
    )
    running = Running(tmp_path, wal=limits)
    with pytest.raises(grpc.RpcError) as error:
        for span_id in range(1, 100):
            running.call(TRACES, span_request(span_id).SerializeToString())
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    details = dict(error.value.trailing_metadata())["grpc-status-details-bin"]
    retry = RetryInfo()
    assert Status.FromString(details).details[0].Unpack(retry)
    assert retry.retry_delay.ToNanoseconds() == 7_500_000_000
    running.close()


def test_a_message_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    """Before it is in memory as a whole."""
    running = Running(tmp_path, limits=GrpcLimits(message_bytes_max=1000))
    with pytest.raises(grpc.RpcError) as error:
        running.call(TRACES, b"x" * 2000)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    running.close()


def test_who_may_not_send_is_told_so(tmp_path: Path) -> None:
    """The same check as for HTTP, on the metadata."""

    def refusal(headers: Any) -> str | None:
        return None if (b"authorization", b"Bearer right") in set(headers) else "the ingest token is needed"

    running = Running(tmp_path, refusal=refusal)
    message = span_request().SerializeToString()
    assert running.call(TRACES, message, (("authorization", "Bearer right"),)) == b""
    with pytest.raises(grpc.RpcError) as error:
        running.call(TRACES, message, (("authorization", "Bearer wrong"),))
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert error.value.details() == "the ingest token is needed"
    running.close()


def test_an_address_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    """With the setting's name; two collectors must not share a port in silence."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wal, ledger = open_log(tmp_path, durable_seq=0)
        with pytest.raises(ConfigurationError, match="grpc_port"):
            GrpcServer(Intake(wal, ledger), host="127.0.0.1", port=taken.getsockname()[1])
