"""OTLP to any backend: what it gets is what was logged, judged by OpenTelemetry's own protobuf messages."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import orjson
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tracing.errors import ConfigurationError, RetryableExportError
from tracing.export import open_exporter
from tracing.export.otlp import HttpPoster, OtlpCarrier, OtlpExporter, poster_for
from tracing.export.otlp_json import any_value, count, requests
from tracing.export.otlp_proto import GrpcPoster, message
from tracing.line import encode
from tracing.settings import Settings
from tracing.spool import ShipperLimits
from tracing.spool.format import SegmentHeader, loss_line
from tracing.spool.reader import Batch

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
RESOURCE = {"service.name": "orders", "process.pid": 7}

LOG = {
    "timestamp": 1_700_000_000_000_000_001,
    "level": "ERROR",
    "service": "orders",
    "trace_id": TRACE,
    "span_id": SPAN,
    "message": "it failed",
    "logger": "shop.cart",
    "attributes": {
        "text": "t",
        "flag": True,
        "int": 2**40,
        "float": 0.5,
        "list": [1, "a"],
        "map": {"k": None},
    },
    "exception": {"type": "ValueError", "message": "no", "stacktrace": "Traceback"},
    "source": {"file": "cart.py", "line": 12, "function": "add"},
    "trace_flags": 1,
}
SPAN_LINE = {
    "timestamp": 1_700_000_000_000_000_000,
    "level": "ERROR",
    "service": "orders",
    "trace_id": TRACE,
    "span_id": SPAN,
    "kind": "span",
    "logger": "shop.cart",
    "attributes": {"http.response.status_code": 500},
    "name": "POST /cart",
    "span_kind": "SERVER",
    "parent_span_id": "00f067aa0ba902b7",
    "duration_ns": 250,
    "status": {"code": "ERROR", "message": "no"},
    "events": [{"timestamp": "2023-11-14T22:13:20.000000100Z", "name": "retry", "attributes": {"n": 1}}],
    "links": [{"trace_id": TRACE, "span_id": "00f067aa0ba902b7", "attributes": {}}, {"trace_id": "bad"}],
}


class Backend:
    """An OTLP backend over HTTP: keeps the protobuf messages that it was sent, JSON read as OTLP's JSON."""

    def __init__(self) -> None:
        self.logs: list[Any] = []
        self.spans: list[Any] = []
        self.types: list[str] = []
        self.answer: Callable[[str, str], tuple[int, bytes] | None] = lambda _path, _type: None
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = backend.handle(self.path, self.headers["Content-Type"], body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def handle(self, path: str, kind: str, body: bytes) -> tuple[int, bytes]:
        """Take one request."""
        self.types.append(kind)
        answer = self.answer(path, kind)
        if answer is not None:
            return answer
        signal = path.rpartition("/")[2]
        sent = received(signal, kind, body)
        if signal == "logs":
            self.logs += [record for _, record in log_records(sent)]
        else:
            self.spans += [
                s for part in sent.resource_spans for scope in part.scope_spans for s in scope.spans
            ]
        return 200, b"{}"


def received(signal: str, kind: str, body: bytes) -> Any:
    """Read a request as OpenTelemetry's own messages."""
    made: Any = {
        "logs": logs_service_pb2.ExportLogsServiceRequest,
        "traces": trace_service_pb2.ExportTraceServiceRequest,
    }[signal]()
    if kind == "application/json":
        return message(signal, orjson.loads(body))
    made.ParseFromString(body)
    return made


def log_records(sent: Any) -> list[tuple[str, Any]]:
    """Scope name and record of each log in a request."""
    scopes = [scope for part in sent.resource_logs for scope in part.scope_logs]
    return [(scope.scope.name, record) for scope in scopes for record in scope.log_records]


@pytest.fixture
def backend() -> Iterator[Backend]:
    """An OTLP backend, listening."""
    made = Backend()
    yield made
    made.server.shutdown()
    made.server.server_close()


def exporter_for(root: Path, endpoint: str) -> OtlpExporter:
    """An exporter that does not let a test wait."""
    limits = ShipperLimits(
        poll_interval_s=0.01, scan_interval_s=0.02, backoff_first_s=0.01, backoff_max_s=0.05
    )
    return OtlpExporter(
        root, service="orders", resource=RESOURCE, endpoint=endpoint, token=None, limits=limits
    )


def batch_of(*lines: bytes, offset: int = 0) -> Batch:
    """Lines as a shipper hands them over."""
    spool_id = "0" * 32
    header = SegmentHeader(spool_id=spool_id, segment=0, first_offset=0, resource=RESOURCE).encode()
    return Batch(header, spool_id, offset, b"".join(lines))


# ---- translation ----


def test_a_log_says_the_same_in_otlp() -> None:
    """Every key of the line has its place; names are those of the semantic conventions."""
    sent = message("logs", requests([encode(LOG)], RESOURCE).logs or {})
    ((scope, record),) = log_records(sent)
    assert scope == "shop.cart"
    assert record.time_unix_nano == LOG["timestamp"]
    assert (record.severity_number, record.severity_text) == (17, "ERROR")
    assert record.body.string_value == "it failed"
    assert (record.trace_id.hex(), record.span_id.hex(), record.flags) == (TRACE, SPAN, 1)
    attributes = {item.key: item.value for item in record.attributes}
    assert attributes["text"].string_value == "t"
    assert attributes["flag"].bool_value is True
    assert attributes["int"].int_value == 2**40
    assert attributes["float"].double_value == 0.5
    assert [item.WhichOneof("value") for item in attributes["list"].array_value.values] == [
        "int_value",
        "string_value",
    ]
    assert attributes["map"].kvlist_value.values[0].value.WhichOneof("value") is None
    texts = {key: value.string_value for key, value in attributes.items() if value.string_value}
    assert texts["exception.type"] == "ValueError"
    assert texts["exception.stacktrace"] == "Traceback"
    assert texts["code.file.path"] == "cart.py"
    assert attributes["code.line.number"].int_value == 12
    resource = {item.key: item.value for item in sent.resource_logs[0].resource.attributes}
    assert resource["service.name"].string_value == "orders"
    assert resource["process.pid"].int_value == 7


def test_a_span_says_the_same_in_otlp() -> None:
    """Times, kind, parent, status, events, and the links whose ids are ids."""
    sent = message("traces", requests([encode(SPAN_LINE)], RESOURCE).traces or {})
    (span,) = sent.resource_spans[0].scope_spans[0].spans
    assert (span.trace_id.hex(), span.span_id.hex()) == (TRACE, SPAN)
    assert span.parent_span_id.hex() == "00f067aa0ba902b7"
    assert (span.name, span.kind) == ("POST /cart", 2)
    assert span.start_time_unix_nano == SPAN_LINE["timestamp"]
    assert span.end_time_unix_nano == 1_700_000_000_000_000_250
    assert (span.status.code, span.status.message) == (2, "no")
    ((event),) = span.events
    assert (event.name, event.time_unix_nano) == ("retry", 1_700_000_000_000_000_100)
    assert [link.span_id.hex() for link in span.links] == ["00f067aa0ba902b7"]


def test_a_root_span_has_no_parent() -> None:
    """And a span without a word on its kind and status is internal and unset."""
    bare = {key: SPAN_LINE[key] for key in ("timestamp", "level", "service", "trace_id", "span_id", "kind")}
    sent = message("traces", requests([encode(bare | {"name": "n", "duration_ns": 0})], {}).traces or {})
    (span,) = sent.resource_spans[0].scope_spans[0].spans
    assert (span.parent_span_id, span.kind, span.status.code) == (b"", 1, 0)


def test_what_otlp_has_no_word_for() -> None:
    """A loss is told as a log; starts and closes are left out; what is no line is counted."""
    start = {**SPAN_LINE, "kind": "span_start"}
    loss = loss_line("orders", 1, reason="over_bound", count=3, begin=10, end=20)
    close = encode({"timestamp": 1, "level": "INFO", "service": "orders", "kind": "close", "close": {}})
    translated = requests([encode(start), loss, close, b"garbage\n"], RESOURCE)
    assert translated.traces is None
    assert translated.unreadable == 1
    assert translated.logs is not None
    assert count(translated.logs) == 1
    ((_, record),) = log_records(message("logs", translated.logs))
    assert record.body.string_value == "3 records are missing: over_bound"
    assert record.event_name == "backtrail.loss"


def test_integers_beyond_64_bits_are_text() -> None:
    """OTLP has no larger ones."""
    assert any_value(2**64 - 1) == {"stringValue": str(2**64 - 1)}
    assert any_value(-(2**63)) == {"intValue": str(-(2**63))}


# ---- on the way ----


def test_what_is_logged_arrives_at_the_backend(tmp_path: Path, backend: Backend) -> None:
    """Through the spool, as JSON over HTTP."""
    exporter = exporter_for(tmp_path, backend.url)
    exporter.write(encode(LOG), 17)
    exporter.write(encode(SPAN_LINE), 17)
    assert exporter.flush(30.0)
    assert [record.body.string_value for record in backend.logs] == ["it failed"]
    assert [span.name for span in backend.spans] == ["POST /cart"]
    assert set(backend.types) == {"application/json"}
    stats = exporter.stats()
    assert (stats["lines"], stats["sent_lines"]) == (2, 2)
    exporter.close("shutdown")


def test_a_backend_that_wants_protobuf_gets_it(tmp_path: Path, backend: Backend) -> None:
    """JSON is offered first, because it costs the program less."""
    backend.answer = lambda _path, kind: (415, b"") if kind == "application/json" else None
    exporter = exporter_for(tmp_path, backend.url)
    for _ in range(2):
        exporter.write(encode(LOG), 17)
        assert exporter.flush(30.0)
    assert len(backend.logs) == 2
    assert backend.types == ["application/json", *["application/x-protobuf"] * 2]
    exporter.close("shutdown")


def test_what_is_left_is_sent_by_the_next_process(tmp_path: Path, backend: Backend) -> None:
    """The backend was away, the process was killed: nothing is lost."""
    child = os.fork()
    if child == 0:
        exporter_for(tmp_path, "http://127.0.0.1:9").write(encode(LOG), 17)
        os._exit(0)
    os.waitpid(child, 0)
    exporter = exporter_for(tmp_path, backend.url)
    deadline_s = time.monotonic() + 30
    while not backend.logs:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    assert len(backend.logs) == 1
    exporter.close("shutdown")


def test_logs_that_were_taken_are_not_repeated_for_the_spans_sake(backend: Backend) -> None:
    """A batch is two requests: when the second fails, only that one is sent again, also in a larger batch."""
    carrier = OtlpCarrier(poster_for(backend.url, None, ShipperLimits())())
    first = batch_of(encode(LOG), encode(SPAN_LINE))
    backend.answer = lambda path, _type: (503, b"") if path == "/v1/traces" else None
    with pytest.raises(RetryableExportError):
        carrier.send(first)
    backend.answer = lambda _path, _type: None
    assert carrier.send(batch_of(first.data, encode(LOG))).offset == first.end_offset
    assert (len(backend.logs), len(backend.spans)) == (1, 1)
    assert carrier.send(batch_of(encode(LOG), offset=first.end_offset)).refused == 0
    assert len(backend.logs) == 2
    carrier.close()


def test_what_the_backend_never_takes_is_counted(backend: Backend) -> None:
    """One signal that is refused as a whole does not hold up the other."""
    carrier = OtlpCarrier(poster_for(backend.url, None, ShipperLimits())())
    backend.answer = lambda path, _type: (400, b"") if path == "/v1/logs" else None
    acknowledged = carrier.send(batch_of(encode(LOG), encode(LOG), encode(SPAN_LINE)))
    assert acknowledged.refused == 2
    assert len(backend.spans) == 1
    backend.answer = lambda _path, _type: (200, b'{"partialSuccess":{"rejectedLogRecords":"1"}}')
    assert carrier.send(batch_of(encode(LOG), encode(LOG))).refused == 1
    carrier.close()


class GrpcBackend:
    """OTLP over gRPC, logs and traces."""

    def __init__(self) -> None:
        self.logs: list[Any] = []
        self.spans: list[Any] = []
        self.status: grpc.StatusCode | None = None
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
        backend = self

        class Logs(logs_service_pb2_grpc.LogsServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:
                backend.fail_if_told(context)
                backend.logs += [record for _, record in log_records(request)]
                answer = logs_service_pb2.ExportLogsServiceResponse()
                answer.partial_success.rejected_log_records = 1
                return answer

        class Traces(trace_service_pb2_grpc.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:
                backend.fail_if_told(context)
                backend.spans.append(request)
                return trace_service_pb2.ExportTraceServiceResponse()

        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Logs(), self.server)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Traces(), self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def fail_if_told(self, context: Any) -> None:
        """Answer with the status that was set."""
        if self.status is not None:
            context.abort(self.status, "as told")


def test_over_grpc() -> None:
    """Statuses decide as OTLP says: never, or later."""
    backend = GrpcBackend()
    carrier = OtlpCarrier(
        GrpcPoster(f"127.0.0.1:{backend.port}", tls_files=None, token="secret", timeout_s=20.0)
    )
    try:
        assert carrier.send(batch_of(encode(LOG), encode(SPAN_LINE))).refused == 1
        assert [record.body.string_value for record in backend.logs] == ["it failed"]
        assert len(backend.spans) == 1
        backend.status = grpc.StatusCode.INVALID_ARGUMENT
        assert carrier.send(batch_of(encode(LOG))).refused == 1
        for status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED):
            backend.status = status
            with pytest.raises(RetryableExportError, match=status.name):
                carrier.send(batch_of(encode(LOG)))
    finally:
        carrier.close()
        backend.server.stop(None)


def test_port_4317_speaks_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is registered for that; without the package, the message says which."""
    import sys

    limits = ShipperLimits()
    assert isinstance(poster_for("http://backend:4317", None, limits)(), GrpcPoster)
    assert isinstance(poster_for("http://backend:7000", None, limits, "grpc")(), GrpcPoster)
    assert isinstance(poster_for("http://backend:4317", None, limits, "http")(), HttpPoster)
    monkeypatch.setitem(sys.modules, "tracing.export.otlp_proto", None)
    with pytest.raises(ConfigurationError, match="opentelemetry-exporter-otlp-proto-grpc"):
        poster_for("http://backend:4317", None, limits)


def test_one_setting_chooses_it(tmp_path: Path, backend: Backend) -> None:
    """Its spools lie beside those for our own collector, never among them."""
    settings = Settings(exporter="otlp", otlp_endpoint=backend.url, spool_dir=tmp_path / "spool")
    exporter = open_exporter(settings, RESOURCE)
    exporter.write(encode(LOG), 17)
    assert exporter.flush(30.0)
    assert [path.name for path in tmp_path.iterdir()] == ["spool-otlp"]
    exporter.close("shutdown")
