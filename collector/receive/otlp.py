"""OTLP logs and traces, protobuf -> fields of record lines. Pure.

Everything that OTLP says has its place in our line (ARCHITECTURE.md, "Record line"); what the line has no
key for becomes an attribute under the name that OpenTelemetry gives it outside OTLP.

Source: opentelemetry-proto 1.x; specification, "OTLP Transformation to non-OTLP Formats".
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Final

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.errors import Refused
from collector.receive.foreign import Decoded, Foreign
from tracing import semconv as sc

SCOPE_VERSION: Final = "otel.scope.version"
TRACE_STATE: Final = "w3c.tracestate"
BODY: Final = "log.body"  # a structured body, beside the text of it that stands in the message
EVENT_NAME: Final = "event.name"
OBSERVED: Final = "log.observed_timestamp"
DROPPED_ATTRIBUTES: Final = "otel.dropped_attributes_count"
DROPPED_EVENTS: Final = "otel.dropped_events_count"
DROPPED_LINKS: Final = "otel.dropped_links_count"
UNKNOWN_SERVICE: Final = "unknown_service"  # as the SDKs say

# A log that was seen so much later than it happened is worth an attribute; every record has a little.
_OBSERVED_LATE_NS: Final = 1_000_000_000
_SPAN_KINDS: Final = (None, *sc.SPAN_KINDS)  # in the order of the protocol's numbers; 0 is "unspecified"
_LEVELS: Final = {number: name for name, number in sc.SEVERITY_NUMBERS.items()}
_NO_SCOPE: Final = InstrumentationScope()

# Where other releases of the semantic conventions keep what our line has keys for.
_EXCEPTION_KEYS: Final = {
    sc.EXCEPTION_TYPE: "type",
    sc.EXCEPTION_MESSAGE: "message",
    sc.EXCEPTION_STACKTRACE: "stacktrace",
}
_SOURCE_KEYS: Final = {
    sc.CODE_FILE: "file",
    sc.CODE_LINE: "line",
    sc.CODE_FUNCTION: "function",
    "code.filepath": "file",
    "code.lineno": "line",
    "code.function": "function",
}
_LIFTED: Final = _EXCEPTION_KEYS.keys() | _SOURCE_KEYS.keys()


def decode_logs(body: bytes) -> Decoded:
    """Read an `ExportLogsServiceRequest`.

    Raises:
        Refused: `bad_body`; the bytes are not one.
    """
    request = ExportLogsServiceRequest()
    _parse(request, body)
    for group in request.resource_logs:
        resource = attributes_of(group.resource.attributes)
        for part in group.scope_logs:
            for item in part.log_records:
                yield Foreign(log_fields(item, part.scope, resource), resource)


def decode_traces(body: bytes) -> Decoded:
    """Read an `ExportTraceServiceRequest`.

    Raises:
        Refused: `bad_body`; the bytes are not one.
    """
    request = ExportTraceServiceRequest()
    _parse(request, body)
    for group in request.resource_spans:
        resource = attributes_of(group.resource.attributes)
        for part in group.scope_spans:
            for item in part.spans:
                yield Foreign(span_fields(item, part.scope, resource), resource)


def _parse(request: ExportLogsServiceRequest | ExportTraceServiceRequest, body: bytes) -> None:
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise Refused("bad_body", f"not an {request.DESCRIPTOR.name}: {error}") from None


def log_fields(item: LogRecord, scope: InstrumentationScope, resource: dict[str, Any]) -> dict[str, Any]:
    """The fields of a log record."""
    attributes = attributes_of(item.attributes)
    _add_scope(attributes, scope)
    level, known = _level_of(item.severity_number, item.severity_text)
    if item.severity_text and not known:
        attributes.setdefault(sc.LEVEL_NAME, item.severity_text)
    if item.event_name:
        attributes.setdefault(EVENT_NAME, item.event_name)
    if item.dropped_attributes_count:
        attributes[DROPPED_ATTRIBUTES] = item.dropped_attributes_count
    time_ns, observed_ns = item.time_unix_nano, item.observed_time_unix_nano
    if time_ns and observed_ns - time_ns > _OBSERVED_LATE_NS:
        attributes[OBSERVED] = observed_ns
    body = value_of(item.body)
    message = body if isinstance(body, str) or body is None else orjson.dumps(body).decode()
    if isinstance(body, dict | list):
        attributes[BODY] = body
    exception = {part: attributes[key] for key, part in _EXCEPTION_KEYS.items() if key in attributes}
    source = {part: attributes[key] for key, part in _SOURCE_KEYS.items() if key in attributes}
    if not _is_right(exception, source):
        exception, source = {}, {}
    else:
        attributes = {key: value for key, value in attributes.items() if key not in _LIFTED}
    return {
        sc.TIMESTAMP: time_ns or observed_ns or None,
        sc.LEVEL: level,
        sc.SERVICE: service_of(resource),
        sc.TRACE_ID: item.trace_id.hex() or None,
        sc.SPAN_ID: item.span_id.hex() or None,
        sc.MESSAGE: message,
        sc.LOGGER: scope.name or None,
        sc.ATTRIBUTES: attributes or None,
        sc.EXCEPTION: exception or None,
        sc.SOURCE: source or None,
        sc.TRACE_FLAGS: (item.flags & 0xFF) or None,
    }


def span_fields(item: Span, scope: InstrumentationScope, resource: dict[str, Any]) -> dict[str, Any]:
    """The fields of a span."""
    attributes = attributes_of(item.attributes)
    _add_scope(attributes, scope)
    if item.trace_state:
        attributes[TRACE_STATE] = item.trace_state
    for key, count in (
        (DROPPED_ATTRIBUTES, item.dropped_attributes_count),
        (DROPPED_EVENTS, item.dropped_events_count),
        (DROPPED_LINKS, item.dropped_links_count),
    ):
        if count:
            attributes[key] = count
    start_ns, end_ns = item.start_time_unix_nano, item.end_time_unix_nano
    code = sc.STATUS_CODES[item.status.code] if 0 <= item.status.code < len(sc.STATUS_CODES) else "UNSET"
    status = {"code": code, "message": item.status.message or None}
    return {
        sc.TIMESTAMP: start_ns or end_ns or None,
        sc.LEVEL: "ERROR" if code == "ERROR" else "INFO",
        sc.SERVICE: service_of(resource),
        sc.TRACE_ID: item.trace_id.hex() or None,
        sc.SPAN_ID: item.span_id.hex() or None,
        sc.KIND: sc.KIND_SPAN,
        sc.LOGGER: scope.name or None,
        sc.ATTRIBUTES: attributes or None,
        sc.TRACE_FLAGS: (item.flags & 0xFF) or None,
        sc.NAME: item.name,
        sc.SPAN_KIND: _SPAN_KINDS[item.kind] if 0 <= item.kind < len(_SPAN_KINDS) else None,
        sc.PARENT_SPAN_ID: item.parent_span_id.hex() or None,
        sc.DURATION_NS: end_ns - start_ns if start_ns and end_ns else 0,
        sc.STATUS: {key: value for key, value in status.items() if value} if code != "UNSET" else None,
        sc.EVENTS: [_event_of(event, start_ns) for event in item.events] or None,
        sc.LINKS: [_link_of(link) for link in item.links] or None,
    }


def _event_of(event: Span.Event, start_ns: int) -> dict[str, Any]:
    attributes = attributes_of(event.attributes)
    if event.dropped_attributes_count:
        attributes[DROPPED_ATTRIBUTES] = event.dropped_attributes_count
    fields: dict[str, Any] = {"timestamp": event.time_unix_nano or start_ns, "name": event.name}
    if attributes:
        fields["attributes"] = attributes
    return fields


def _link_of(link: Span.Link) -> dict[str, Any]:
    attributes = attributes_of(link.attributes)
    if link.trace_state:
        attributes[TRACE_STATE] = link.trace_state
    if link.dropped_attributes_count:
        attributes[DROPPED_ATTRIBUTES] = link.dropped_attributes_count
    fields: dict[str, Any] = {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()}
    if attributes:
        fields["attributes"] = attributes
    return fields


def _add_scope(attributes: dict[str, Any], scope: InstrumentationScope) -> None:
    """The scope's own attributes, under the record's; its name is the `logger`."""
    if scope.version:
        attributes.setdefault(SCOPE_VERSION, scope.version)
    if scope.attributes:
        for key, value in attributes_of(scope.attributes).items():
            attributes.setdefault(key, value)


def _level_of(number: int, text: str) -> tuple[str, bool]:
    """The level's name, and whether it says all that the sender said."""
    named = sc.normal_level(text) if text else None
    if number in _LEVELS:
        return _LEVELS[number], not text or named == _LEVELS[number]
    return (named, True) if named is not None else ("INFO", False)


def _is_right(exception: dict[str, Any], source: dict[str, Any]) -> bool:
    """Whether the parts have the types that our line's keys have; else they stay attributes."""
    texts = (*exception.values(), *(source[part] for part in ("file", "function") if part in source))
    line = source.get("line", 0)
    return all(isinstance(text, str) for text in texts) and type(line) is int


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes as plain values; of a key that comes twice the last."""
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: AnyValue) -> Any:
    """One value as JSON can say it; bytes become base64, as in OTLP's own JSON."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "bool_value":
            return value.bool_value
        case "array_value":
            return [value_of(item) for item in value.array_value.values]
        case "kvlist_value":
            return attributes_of(value.kvlist_value.values)
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
        case _:
            return None


def service_of(resource: dict[str, Any]) -> str:
    """The service that a resource belongs to."""
    name = resource.get(sc.SERVICE_NAME)
    return name if isinstance(name, str) and name else UNKNOWN_SERVICE


# ---------------------------------------------------------------- answers


def logs_answer(rejected: int, message: str) -> ExportLogsServiceResponse:
    """The answer to logs: a partial success when something was rejected."""
    answer = ExportLogsServiceResponse()
    if rejected or message:
        answer.partial_success.rejected_log_records = rejected
        answer.partial_success.error_message = message
    return answer


def traces_answer(rejected: int, message: str) -> ExportTraceServiceResponse:
    """The answer to spans: a partial success when something was rejected."""
    answer = ExportTraceServiceResponse()
    if rejected or message:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = message
    return answer


def metrics_answer() -> ExportMetricsServiceResponse:
    """The answer to metrics, which are taken with thanks and thrown away.

    The number of rejected points is not given: a sender would log it as an error every minute.
    """
    answer = ExportMetricsServiceResponse()
    answer.partial_success.error_message = "metrics are not kept here; point the metrics exporter elsewhere"
    return answer
