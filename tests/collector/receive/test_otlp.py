"""OTLP, as the stock OpenTelemetry SDK writes it and as its specification allows it."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from collector.errors import Refused
from collector.receive import otlp, otlp_json
from collector.receive.foreign import Foreign, Unreadable

RESOURCE = Resource({"service.name": "orders", "service.instance.id": "o-1", "ports": [1, 2]})
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"


def as_json(message: Message) -> bytes:
    """A request in OTLP's JSON: protobuf's own mapping, but ids in hex."""

    def hex_ids(value: Any) -> Any:
        if isinstance(value, list):
            return [hex_ids(item) for item in value]
        if isinstance(value, dict):
            return {
                key: base64.b64decode(item).hex()
                if key in ("traceId", "spanId", "parentSpanId")
                else hex_ids(item)
                for key, item in value.items()
            }
        return value

    return json.dumps(hex_ids(MessageToDict(message))).encode()


@pytest.fixture(params=["protobuf", "json"])
def encoding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def logs_in(request: Message, encoding: str) -> list[Foreign]:
    decoded = (
        otlp.decode_logs(request.SerializeToString())
        if encoding == "protobuf"
        else otlp_json.decode_logs(as_json(request))
    )
    return [item for item in decoded if isinstance(item, Foreign)]


def spans_in(request: Message, encoding: str) -> list[Foreign]:
    decoded = (
        otlp.decode_traces(request.SerializeToString())
        if encoding == "protobuf"
        else otlp_json.decode_traces(as_json(request))
    )
    return [item for item in decoded if isinstance(item, Foreign)]


def without_nothing(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def test_the_spans_of_a_stock_sdk_program(encoding: str) -> None:
    """Names, kinds, parents, times, attributes, events, links, status, scope: everything has a place."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("shop.http", "1.2", attributes={"scoped": True})
    with tracer.start_as_current_span("GET /orders", kind=trace.SpanKind.SERVER) as server:
        link = trace.Link(server.get_span_context(), {"why": "retry"})
        with (
            pytest.raises(ValueError, match="declined"),
            tracer.start_as_current_span(
                "charge",
                kind=trace.SpanKind.CLIENT,
                links=[link],
                attributes={"n": 1, "f": 0.5, "ok": True, "tags": ["a", "b"]},
            ) as client,
        ):
            client.add_event("sent", {"bytes": 7}, timestamp=1_700_000_000_000_000_001)
            raise ValueError("card declined")
    finished = {span.name: span for span in exporter.get_finished_spans()}
    found = {item.fields["name"]: item for item in spans_in(encode_spans(finished.values()), encoding)}

    server_context = server.get_span_context()
    fields = without_nothing(found["charge"].fields)
    events = fields.pop("events")
    fields.pop("trace_flags", None)  # not every release of the SDK sends them
    assert fields == {
        "timestamp": finished["charge"].start_time,
        "level": "ERROR",
        "service": "orders",
        "trace_id": f"{server_context.trace_id:032x}",
        "span_id": f"{client.get_span_context().span_id:016x}",
        "kind": "span",
        "logger": "shop.http",
        "attributes": {
            "n": 1,
            "f": 0.5,
            "ok": True,
            "tags": ["a", "b"],
            "otel.scope.version": "1.2",
            "scoped": True,
        },
        "name": "charge",
        "span_kind": "CLIENT",
        "parent_span_id": f"{server_context.span_id:016x}",
        "duration_ns": finished["charge"].end_time - finished["charge"].start_time,
        "status": {"code": "ERROR", "message": "ValueError: card declined"},
        "links": [
            {
                "trace_id": f"{server_context.trace_id:032x}",
                "span_id": f"{server_context.span_id:016x}",
                "attributes": {"why": "retry"},
            }
        ],
    }
    assert events[0] == {"timestamp": 1_700_000_000_000_000_001, "name": "sent", "attributes": {"bytes": 7}}
    assert events[1]["name"] == "exception"
    assert events[1]["attributes"]["exception.type"] == "ValueError"
    assert "card declined" in events[1]["attributes"]["exception.stacktrace"]

    entry = without_nothing(found["GET /orders"].fields)
    assert (entry["span_kind"], entry["level"]) == ("SERVER", "INFO")
    assert "parent_span_id" not in entry and "status" not in entry and "events" not in entry
    assert found["charge"].resource == {**RESOURCE.attributes, "ports": [1, 2]}
    assert found["charge"].resource is found["GET /orders"].resource


@pytest.mark.filterwarnings("ignore:`LoggingHandler`:DeprecationWarning")
def test_the_logs_of_a_stock_sdk_program(encoding: str) -> None:
    """Through the SDK's own logging handler: ids, exception, source and level have their keys."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(resource=RESOURCE)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = logging.getLogger("shop.orders")
    logger.propagate = False
    handler = LoggingHandler(logger_provider=provider)
    logger.addHandler(handler)
    context = trace.SpanContext(int(TRACE_ID, 16), int(SPAN_ID, 16), False, trace.TraceFlags(1))
    try:
        with trace.use_span(trace.NonRecordingSpan(context)):
            try:
                raise KeyError("cart")
            except KeyError:
                logger.exception("order %d failed", 7, extra={"order_id": 7})
    finally:
        logger.removeHandler(handler)
    written = exporter.get_finished_logs()
    (item,) = logs_in(encode_logs(written), encoding)
    fields = without_nothing(item.fields)
    assert fields["timestamp"] == written[0].log_record.timestamp
    assert {key: fields[key] for key in ("level", "service", "trace_id", "span_id", "message", "logger")} == {
        "level": "ERROR",
        "service": "orders",
        "trace_id": TRACE_ID,
        "span_id": SPAN_ID,
        "message": "order 7 failed",
        "logger": "shop.orders",
    }
    assert fields["trace_flags"] == 1
    assert fields["attributes"] == {"order_id": 7}
    assert fields["exception"]["type"] == "KeyError"
    assert "KeyError: 'cart'" in fields["exception"]["stacktrace"]
    assert fields["source"]["file"] == __file__
    assert fields["source"]["function"] == "test_the_logs_of_a_stock_sdk_program"
    assert item.resource["service.instance.id"] == "o-1"


def log_request(**fields: Any) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    attributes = fields.pop("attributes", {})
    body = fields.pop("body", None)
    for key, value in fields.items():
        setattr(record, key, value)
    record.attributes.extend(KeyValue(key=key, value=any_value(value)) for key, value in attributes.items())
    if body is not None:
        record.body.CopyFrom(any_value(body))
    return request


def any_value(value: Any) -> AnyValue:
    match value:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case dict():
            found = AnyValue()
            found.kvlist_value.values.extend(KeyValue(key=k, value=any_value(v)) for k, v in value.items())
            return found
        case _:
            found = AnyValue()
            found.array_value.values.extend(any_value(item) for item in value)
            return found


def log_fields(encoding: str, **fields: Any) -> dict[str, Any]:
    (item,) = logs_in(log_request(**fields), encoding)
    return without_nothing(item.fields)


def test_a_body_of_any_kind_is_kept(encoding: str) -> None:
    """Text is the message; what has a structure is kept as such, and its text can be searched."""
    assert log_fields(encoding, body="plain")["message"] == "plain"
    assert log_fields(encoding, body=42)["message"] == "42"
    assert log_fields(encoding, body=b"\x00\xff")["message"] == "AP8="
    assert "message" not in log_fields(encoding)
    structured = {"event": "paid", "cents": [1, 2.5, None, True], "deep": {"raw": b"x"}}
    fields = log_fields(encoding, body=structured)
    plain = {"event": "paid", "cents": [1, 2.5, None, True], "deep": {"raw": "eA=="}}
    assert json.loads(fields["message"]) == plain
    assert fields["attributes"] == {"log.body": plain}


def test_attributes_keep_their_types(encoding: str) -> None:
    """Integers to the edge of 64 bits, nested values, bytes as base64."""
    attributes = {"max": 2**63 - 1, "min": -(2**63), "map": {"a": [{"b": 1}]}, "bytes": b"\xff", "none": None}
    expected = {**attributes, "bytes": "/w=="}
    assert log_fields(encoding, attributes=attributes)["attributes"] == expected


@pytest.mark.parametrize(
    ("number", "text", "level", "own"),
    [
        (9, "INFO", "INFO", None),
        (10, "", "INFO2", None),
        (17, "error", "ERROR", None),
        (13, "WARNING", "WARN", None),
        (0, "critical", "FATAL", None),
        (0, "", "INFO", None),
        (0, "chatty", "INFO", "chatty"),
        (9, "notice-me", "INFO", "notice-me"),
        (99, "", "INFO", None),
    ],
)
def test_severities(encoding: str, number: int, text: str, level: str, own: str | None) -> None:
    """The number counts; a name that says something else stays beside it."""
    request = log_request(severity_text=text)
    request.resource_logs[0].scope_logs[0].log_records[0].severity_number = number  # type: ignore[assignment]
    (item,) = logs_in(request, encoding)
    assert item.fields["level"] == level
    assert (item.fields["attributes"] or {}).get("log.level.name") == own


def test_times_of_a_log(encoding: str) -> None:
    """The time of the event, else that of its observation; none at all is left to the intake."""
    assert log_fields(encoding, time_unix_nano=5, observed_time_unix_nano=9)["timestamp"] == 5
    assert log_fields(encoding, observed_time_unix_nano=9)["timestamp"] == 9
    assert "timestamp" not in log_fields(encoding)
    late = log_fields(encoding, time_unix_nano=5, observed_time_unix_nano=2_000_000_000)
    assert late["attributes"] == {"log.observed_timestamp": 2_000_000_000}


def test_the_rest_of_a_log_record(encoding: str) -> None:
    """Event name, flags, counts of what the sender dropped, exceptions under the old names."""
    fields = log_fields(
        encoding,
        event_name="order.paid",
        flags=0x101,
        dropped_attributes_count=3,
        attributes={"code.filepath": "/a.py", "code.lineno": 7, "code.function": "f"},
    )
    assert fields["trace_flags"] == 1
    assert fields["attributes"] == {"event.name": "order.paid", "otel.dropped_attributes_count": 3}
    assert fields["source"] == {"file": "/a.py", "line": 7, "function": "f"}
    assert fields["service"] == "unknown_service"
    odd = log_fields(encoding, attributes={"exception.type": 7, "code.file.path": "/a.py"})
    assert odd["attributes"] == {"exception.type": 7, "code.file.path": "/a.py"}
    assert "exception" not in odd and "source" not in odd


def test_the_rest_of_a_span(encoding: str) -> None:
    """Trace state, counts, kinds and codes beyond the list, an end before the start, no ids."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_state = "vendor=1"
    span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count = 1, 2, 3
    span.start_time_unix_nano, span.end_time_unix_nano = 100, 90
    span.kind = 17  # type: ignore[assignment]
    span.status.code = 9  # type: ignore[assignment]
    span.events.add(name="e", dropped_attributes_count=4)
    span.links.add(trace_id=bytes.fromhex(TRACE_ID), span_id=bytes.fromhex(SPAN_ID), trace_state="v=2")
    (item,) = spans_in(request, encoding)
    fields = without_nothing(item.fields)
    assert fields == {
        "timestamp": 100,
        "level": "INFO",
        "service": "unknown_service",
        "kind": "span",
        "attributes": {
            "w3c.tracestate": "vendor=1",
            "otel.dropped_attributes_count": 1,
            "otel.dropped_events_count": 2,
            "otel.dropped_links_count": 3,
        },
        "name": "",
        "duration_ns": -10,
        "events": [{"timestamp": 100, "name": "e", "attributes": {"otel.dropped_attributes_count": 4}}],
        "links": [{"trace_id": TRACE_ID, "span_id": SPAN_ID, "attributes": {"w3c.tracestate": "v=2"}}],
    }


@pytest.mark.parametrize("body", [b"\xff\xff\xff", b"{}", b"\x0a\x05abc"])
def test_bytes_that_are_no_request_are_refused(body: bytes) -> None:
    """As a whole: nothing of it can be trusted."""
    for decode in (otlp.decode_logs, otlp.decode_traces):
        with pytest.raises(Refused) as refusal:
            list(decode(body))
        assert refusal.value.reason == "bad_body"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", None),
        (b"[]", None),
        (b"{", None),
        (b'{"resourceSpans":{}}', "resourceSpans"),
        (b'{"resourceSpans":[7]}', "scopeSpans"),
        (b'{"resourceSpans":[{"resource":{"attributes":7}}]}', "resource"),
        (b'{"resourceSpans":[{"scopeSpans":[{"scope":[1]}]}]}', "scope"),
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":"x"}]}]}', "spans"),
        (b"[" * 100_000, None),
    ],
)
def test_json_that_is_no_request_is_refused(body: bytes, field: str | None) -> None:
    """With the place where it stops being one."""
    with pytest.raises(Refused) as refusal:
        list(otlp_json.decode_traces(body))
    assert (refusal.value.reason, refusal.value.field) == ("bad_body", field)


def test_one_bad_record_in_json_leaves_its_neighbours() -> None:
    """Each is decoded on its own, and the bad ones say what is wrong with them."""
    bad: list[Any] = [
        {"traceId": "xyz"},
        {"traceId": 7},
        {"startTimeUnixNano": "soon"},
        {"attributes": {"a": 1}},
        {"links": [{"spanId": "q"}]},
        {"name": {"deep": 1}},
        "span",
        None,
        {"attributes": [{"key": "a", "value": {"intValue": str(2**70)}}]},
        {"name": "\ud800"},
    ]
    spans = [one for index, item in enumerate(bad) for one in (item, {"name": f"good {index}"})]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    decoded = list(otlp_json.decode_traces(body))
    assert [item.fields["name"] for item in decoded if isinstance(item, Foreign)] == [
        f"good {index}" for index in range(len(bad))
    ]
    problems = [item.problem for item in decoded if isinstance(item, Unreadable)]
    assert [problem.reason for problem in problems[:2]] == ["bad_id", "bad_id"]
    assert len(problems) == len(bad)
    assert "startTimeUnixNano" in str(problems[2])


def test_snake_case_and_unknown_keys_are_read() -> None:
    """Senders write both spellings, and newer ones write more."""
    body = {
        "resource_spans": [
            {
                "schema_url": "x",
                "scope_spans": [{"spans": [{"trace_id": TRACE_ID, "span_id": SPAN_ID, "new_key": {"a": 1}}]}],
            }
        ]
    }
    (item,) = otlp_json.decode_traces(json.dumps(body).encode())
    assert isinstance(item, Foreign)
    assert (item.fields["trace_id"], item.fields["span_id"]) == (TRACE_ID, SPAN_ID)


def test_severity_number_names_cover_the_scale() -> None:
    """Every number that the SDK can send has a level."""
    for number in SeverityNumber:
        if number.value:
            assert log_fields("protobuf", severity_number=number.value)["level"] == number.name
