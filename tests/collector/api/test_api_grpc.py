"""OTLP over gRPC: the stock exporters, and everything that can be refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from collector.api.grpc_server import retry_status
from collector.errors import ConfigurationError, Overloaded
from collector.service import Collector
from collector.settings import Settings

PATIENCE_S = 30.0
EXPORT = "/opentelemetry.proto.collector.{}.v1.{}Service/Export"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    """With a gRPC port."""
    settings = Settings(
        data_dir=tmp_path / "data",
        port=0,
        grpc_port=0,
        store="memory",
        body_bytes_max=100_000,  # type: ignore[arg-type]
    )
    with Collector(settings) as running:
        yield running


def call(collector: Collector, signal: str, name: str, message: bytes, token: str | None = None) -> bytes:
    """One raw call."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(f"127.0.0.1:{collector.grpc_port}") as channel:
        answer: bytes = channel.unary_unary(EXPORT.format(signal, name))(
            message, metadata=metadata, timeout=PATIENCE_S
        )
        return answer


def refusal(*args: Any, **kwargs: Any) -> grpc.RpcError:
    """The error that a call ends in."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value


def test_a_stock_sdk_over_grpc(collector: Collector) -> None:
    """A span and the log inside it, sent by OpenTelemetry's own exporters, are one trace."""
    endpoint = f"127.0.0.1:{collector.grpc_port}"
    resource = Resource({"service.name": "stock"})
    spans = TracerProvider(resource=resource)
    spans.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(endpoint=endpoint, insecure=True)))
    logger = logging.Logger("stock.program")
    logger.addHandler(LoggingHandler(logger_provider=logs))
    with spans.get_tracer("t").start_as_current_span("checkout") as span:
        logger.warning("card declined")
        trace_id = f"{span.get_span_context().trace_id:032x}"
    spans.shutdown()
    logs.shutdown()
    assert collector.pipeline.drain(PATIENCE_S)
    trace = collector.pipeline.answers.trace(trace_id)
    assert [(node["name"], node["service"]) for node in trace["nodes"]] == [("checkout", "stock")]
    assert [log["message"] for log in trace["nodes"][0]["logs"]] == ["card declined"]


def test_metrics_are_answered_politely(collector: Collector) -> None:
    """Not kept, and said so as a partial success."""
    answer = ExportMetricsServiceResponse.FromString(call(collector, "metrics", "Metrics", b""))
    assert answer.partial_success.error_message


def test_what_cannot_be_read_is_an_invalid_argument(collector: Collector) -> None:
    """Which an exporter does not repeat."""
    error = refusal(collector, "logs", "Logs", b"\xff\xff\xff")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details()


def test_a_message_that_is_too_long_is_refused(collector: Collector) -> None:
    """By grpc itself."""
    error = refusal(collector, "logs", "Logs", bytes(200_000))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_no_room_says_when_to_come_back(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """UNAVAILABLE with a RetryInfo, as the protocol asks for throttling."""

    def refuses(*_: object) -> object:
        raise Overloaded("the write-ahead log is full", retry_after_s=2.5)

    monkeypatch.setattr(collector.pipeline.wal, "append", refuses)
    message = ExportLogsServiceRequest()
    message.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "m"
    error = refusal(collector, "logs", "Logs", message.SerializeToString())
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "the write-ahead log is full")
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert details == retry_status(Overloaded("the write-ahead log is full", retry_after_s=2.5))


def test_the_retry_info_is_googles(need: Any) -> None:
    """Read by the messages that it is written for."""
    status_pb2 = pytest.importorskip("google.rpc.status_pb2")
    error_details_pb2 = pytest.importorskip("google.rpc.error_details_pb2")
    status = status_pb2.Status.FromString(retry_status(Overloaded("full", retry_after_s=130.25)))
    assert (status.code, status.message) == (14, "full")
    info = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert (info.retry_delay.seconds, info.retry_delay.nanos) == (130, 250_000_000)


def test_our_own_fault_is_internal_without_data(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kind of error to the sender, the rest to the log."""

    def breaks(*_: object) -> object:
        raise KeyError("card 4111")

    monkeypatch.setattr(collector.pipeline.wal, "append", breaks)
    message = ExportLogsServiceRequest()
    message.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "m"
    error = refusal(collector, "logs", "Logs", message.SerializeToString())
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "KeyError" in error.details()
    assert "4111" not in error.details()
    assert "card 4111" in caplog.text


def test_the_ingest_token_is_asked_for(tmp_path: Path) -> None:
    """As over HTTP; a reload counts at once."""
    settings = Settings(
        data_dir=tmp_path / "data",
        port=0,
        grpc_port=0,
        store="memory",
        ingest_token="sender",  # type: ignore[arg-type]
        read_token="reader",  # type: ignore[arg-type]
    )
    with Collector(settings) as running:
        assert refusal(running, "logs", "Logs", b"").code() is grpc.StatusCode.UNAUTHENTICATED
        wrong = refusal(running, "logs", "Logs", b"", token="reader")
        assert wrong.code() is grpc.StatusCode.PERMISSION_DENIED
        assert call(running, "logs", "Logs", b"", token="sender") == b""
        running.reload(settings.model_copy(update={"ingest_token": None}))
        assert call(running, "logs", "Logs", b"") == b""


def test_a_port_in_use_stops_the_start(collector: Collector, tmp_path: Path) -> None:
    """Rather than being shared in silence; the first goes on."""
    settings = Settings(data_dir=tmp_path / "other", port=0, store="memory", grpc_port=collector.grpc_port)
    with pytest.raises(ConfigurationError, match="grpc_port"):
        Collector(settings).start()
    assert call(collector, "logs", "Logs", b"") == b""
