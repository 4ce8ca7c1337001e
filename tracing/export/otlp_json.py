"""Record lines -> OTLP requests in OTLP's JSON. Pure.

Source: opentelemetry-proto 1.x, "JSON Protobuf Encoding": ids in hex, 64-bit integers as text, enums as
numbers, keys in lowerCamelCase. Names of attributes: OpenTelemetry semantic conventions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import decode, parse_timestamp

STATUS_NUMBERS: Final = {code: number for number, code in enumerate(sc.STATUS_CODES)}
KIND_NUMBERS: Final = {kind: number for number, kind in enumerate(sc.SPAN_KINDS, start=1)}
LOSS_EVENT: Final = "backtrail.loss"  # event name of the log that a loss line becomes

_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"[0-9a-f]{16}")
_SOURCE_KEYS: Final = {"file": sc.CODE_FILE, "line": sc.CODE_LINE, "function": sc.CODE_FUNCTION}
_EXCEPTION_KEYS: Final = {
    "type": sc.EXCEPTION_TYPE,
    "message": sc.EXCEPTION_MESSAGE,
    "stacktrace": sc.EXCEPTION_STACKTRACE,
}


class OtlpRequests(NamedTuple):
    """What one batch of lines becomes; `None` where it has nothing of a kind."""

    logs: dict[str, Any] | None  # ExportLogsServiceRequest
    traces: dict[str, Any] | None  # ExportTraceServiceRequest
    unreadable: int  # lines that are no record lines


def requests(lines: Iterable[bytes], resource: Mapping[str, Any]) -> OtlpRequests:
    """Translate the lines of one process.

    A span's start and the end of a spool have no word in OTLP and are left out; a loss becomes a log.
    """
    logs: dict[str, list[dict[str, Any]]] = {}
    spans: dict[str, list[dict[str, Any]]] = {}
    unreadable = 0
    for line in lines:
        try:
            fields = decode(line)
            scope = fields.get(sc.LOGGER) or ""
            kind = fields.get(sc.KIND)
            if kind == sc.KIND_SPAN:
                spans.setdefault(scope, []).append(_span(fields))
            elif kind in (None, sc.KIND_LOSS):
                logs.setdefault(scope, []).append(_log(fields))
        except InvalidLine:
            unreadable += 1
    return OtlpRequests(
        logs=_request("resourceLogs", "scopeLogs", "logRecords", logs, resource),
        traces=_request("resourceSpans", "scopeSpans", "spans", spans, resource),
        unreadable=unreadable,
    )


def count(request: Mapping[str, Any]) -> int:
    """Return how many records a request has."""
    return sum(
        len(records)
        for parts in request.values()
        for part in parts
        for scopes in part.values()
        if isinstance(scopes, list)
        for scope in scopes
        for records in scope.values()
        if isinstance(records, list)
    )


def attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Write a mapping as a list of KeyValue."""
    return [{"key": key, "value": any_value(value)} for key, value in values.items()]


def any_value(value: Any) -> dict[str, Any]:
    """Write a JSON value as an AnyValue; null is the empty one."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)} if -(2**63) <= value < 2**63 else {"stringValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}  # finite: a line is JSON, which has no other
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": attributes(value)}}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(item) for item in value]}}
    return {"stringValue": str(value)}


def _request(
    outer: str,
    middle: str,
    inner: str,
    by_scope: Mapping[str, list[dict[str, Any]]],
    resource: Mapping[str, Any],
) -> dict[str, Any] | None:
    if not by_scope:
        return None
    scopes = [{"scope": {"name": name}, inner: records} for name, records in by_scope.items()]
    return {outer: [{"resource": {"attributes": attributes(resource)}, middle: scopes}]}


def _log(fields: Mapping[str, Any]) -> dict[str, Any]:
    level, time_ns = fields[sc.LEVEL], str(fields[sc.TIMESTAMP])
    record: dict[str, Any] = {
        "timeUnixNano": time_ns,
        "observedTimeUnixNano": time_ns,
        "severityNumber": sc.SEVERITY_NUMBERS[level],
        "severityText": level,
    }
    loss = fields.get(sc.LOSS)
    if loss is not None:
        record["body"] = any_value(f"{loss.get('count')} records are missing: {loss.get('reason')}")
        record["eventName"] = LOSS_EVENT
        record["attributes"] = attributes({f"{LOSS_EVENT}.{key}": value for key, value in loss.items()})
        return record
    if sc.MESSAGE in fields:
        record["body"] = any_value(fields[sc.MESSAGE])
    record["attributes"] = attributes(_all_attributes(fields))
    return record | _ids(fields)


def _span(fields: Mapping[str, Any]) -> dict[str, Any]:
    start_ns = fields[sc.TIMESTAMP]
    status = fields.get(sc.STATUS) or {}
    span: dict[str, Any] = {
        "name": fields.get(sc.NAME, ""),
        "kind": KIND_NUMBERS.get(fields.get(sc.SPAN_KIND, ""), 1),
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(start_ns + fields[sc.DURATION_NS]),
        "attributes": attributes(_all_attributes(fields)),
        "events": [_event(event, start_ns) for event in fields.get(sc.EVENTS, ())],
        "links": [_link(link) for link in fields.get(sc.LINKS, ()) if _is_link(link)],
        "status": {"code": STATUS_NUMBERS.get(status.get("code", ""), 0)},
    }
    if status.get("message"):
        span["status"]["message"] = str(status["message"])
    if sc.PARENT_SPAN_ID in fields:
        span["parentSpanId"] = fields[sc.PARENT_SPAN_ID]
    return span | _ids(fields)


def _ids(fields: Mapping[str, Any]) -> dict[str, Any]:
    names = ((sc.TRACE_ID, "traceId"), (sc.SPAN_ID, "spanId"), (sc.TRACE_FLAGS, "flags"))
    return {theirs: fields[ours] for ours, theirs in names if ours in fields}


def _all_attributes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes, and what our line has keys for and OTLP has attributes."""
    found = dict(fields.get(sc.ATTRIBUTES) or {})
    for key, names in ((sc.SOURCE, _SOURCE_KEYS), (sc.EXCEPTION, _EXCEPTION_KEYS)):
        part = fields.get(key) or {}
        found |= {name: part[short] for short, name in names.items() if part.get(short) is not None}
    return found


def _event(event: Any, start_ns: int) -> dict[str, Any]:
    event = event if isinstance(event, Mapping) else {}
    time = event.get("timestamp")
    return {
        "name": str(event.get("name", "")),
        "timeUnixNano": str(parse_timestamp(time) if isinstance(time, str) else start_ns),
        "attributes": attributes(event.get("attributes") or {}),
    }


def _is_link(link: Any) -> bool:
    """Whether ids are ids: a line's own have been checked by then, those of its links have not."""
    if not isinstance(link, Mapping):
        return False
    trace_id, span_id = str(link.get("trace_id")), str(link.get("span_id"))
    return bool(_TRACE_ID.fullmatch(trace_id) and _SPAN_ID.fullmatch(span_id))


def _link(link: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "traceId": link["trace_id"],
        "spanId": link["span_id"],
        "attributes": attributes(link.get("attributes") or {}),
    }
