"""Records and chains in the formats that other tools read. Pure: values in, pieces of bytes out.

NDJSON: our record lines with `uid` and `resource`, fit for `backtrail import` and `jq`.
CSV: one row a record, for spreadsheets (RFC 4180).
OTLP JSON: lines of `TracesData` and of `LogsData`, as file exporters write them; sources: OpenTelemetry
protocol 1.9, "JSON Protobuf Encoding", and "OpenTelemetry Protocol File Exporter".
Chrome trace: one chain for Perfetto and chrome://tracing; source: "Trace Event Format", Google, 2016.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

import orjson

from collector.model import Record, SpanNode, Trace, resource_key
from collector.receive.lines import line_fields
from tracing.line import encode, format_timestamp

CSV_COLUMNS: Final = (
    "timestamp", "level", "service", "kind", "trace_id", "span_id", "parent_span_id", "name", "message",
    "duration_ns", "status", "exception_type", "exception_message", "logger", "source_file", "source_line",
    "attributes", "uid",
)  # fmt: skip
# OpenTelemetry's numbers, in the order of `tracing.semconv.SPAN_KINDS` and `STATUS_CODES`.
_SPAN_KINDS: Final = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_STATUS_CODES: Final = {"UNSET": 0, "OK": 1, "ERROR": 2}
# A spreadsheet runs a cell that begins with one of these as a formula (OWASP, "CSV Injection").
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_INT64: Final = range(-(2**63), 2**63)


def ndjson(records: Iterable[Record]) -> Iterator[bytes]:
    """One record line a record."""
    for record in records:
        line = encode({**line_fields(record), "resource": record.resource or None})
        yield line[:-2] + b',"uid":' + orjson.dumps(record.uid) + b"}\n"


CSV_HEADER: Final = ",".join(CSV_COLUMNS).encode() + b"\r\n"


def csv_rows(records: Iterable[Record]) -> Iterator[bytes]:
    """One row a record, in the order of `CSV_COLUMNS`; attributes are one cell of JSON."""
    for record in records:
        row = io.StringIO()
        csv.writer(row, lineterminator="\r\n").writerow([_cell(value) for value in _row(record)])
        yield row.getvalue().encode("utf-8", "replace")


def otlp_json(records: Iterable[Record]) -> Iterator[bytes]:
    """A line of the spans and a line of the logs, by resource, then by scope; none for none."""
    spans: list[Record] = []
    logs: list[Record] = []
    for record in records:
        if record.kind == "span":
            spans.append(record)
        elif record.kind == "log":
            logs.append(record)
    for members, outer, inner, items, write in (
        (spans, "resourceSpans", "scopeSpans", "spans", _otlp_span),
        (logs, "resourceLogs", "scopeLogs", "logRecords", _otlp_log),
    ):
        if members:
            groups = [
                {
                    "resource": resource,
                    inner: [{"scope": scope, items: [write(record) for record in together]}],
                }
                for resource, scope, together in _by_origin(members)
            ]
            yield orjson.dumps({outer: groups}, option=orjson.OPT_APPEND_NEWLINE)


def written(format: Format, pages: Iterable[Sequence[Record]]) -> Iterator[bytes]:
    """Pages of records in a format, a piece a page."""
    piece = format.head
    for page in pages:
        yield piece + b"".join(format.write(page))
        piece = b""


def chrome_trace(trace: Trace) -> Iterator[bytes]:
    """Each service a process, each span a bar, each log a mark; times corrected for clock skew."""
    pids = {service: number for number, service in enumerate(trace.services, 1)}
    yield b'{"displayTimeUnit":"ns","traceEvents":[\n'
    separator = b""
    for event in _chrome_events(trace, pids):
        yield separator + orjson.dumps(event)
        separator = b",\n"
    yield b"\n]}\n"


class Format(NamedTuple):
    """A format that records are exported in, a page at a time."""

    content_type: str
    head: bytes  # before the first page
    write: Callable[[Iterable[Record]], Iterator[bytes]]


FORMATS: Final = {
    "ndjson": Format("application/x-ndjson", b"", ndjson),
    "csv": Format("text/csv; charset=utf-8; header=present", CSV_HEADER, csv_rows),
    "otlp-json": Format("application/x-ndjson", b"", otlp_json),
}
CHROME_CONTENT_TYPE: Final = "application/json"


def _row(record: Record) -> Iterator[Any]:
    exception, source = record.exception, record.source
    yield from (format_timestamp(record.timestamp_ns), record.level, record.service, record.kind)
    yield from (record.trace_id, record.span_id, record.parent_span_id, record.name, record.message)
    yield from (record.duration_ns, record.status.code if record.status else None)
    yield from (exception.type, exception.message) if exception else (None, None)
    yield record.logger
    yield from (source.file, source.line) if source else (None, None)
    yield orjson.dumps(record.attributes).decode() if record.attributes else None
    yield record.uid


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _by_origin(records: list[Record]) -> Iterator[tuple[dict[str, Any], dict[str, Any], list[Record]]]:
    def origin(record: Record) -> tuple[Any, str]:
        return resource_key(record.resource), record.logger or ""

    for (_, scope), members in groupby(sorted(records, key=origin), origin):
        together = list(members)
        first = together[0]
        resource = first.resource or {"service.name": first.service}
        yield {"attributes": _otlp_attributes(resource)}, {"name": scope}, together


def _otlp_span(record: Record) -> dict[str, Any]:
    status = record.status
    return {
        "traceId": record.trace_id,
        "spanId": record.span_id,
        "parentSpanId": record.parent_span_id or "",
        "flags": record.trace_flags or 0,
        "name": record.name or "",
        "kind": _SPAN_KINDS.get(record.span_kind or "", 0),
        "startTimeUnixNano": str(record.timestamp_ns),
        "endTimeUnixNano": str(record.end_ns),
        "attributes": _otlp_attributes(record.attributes),
        "events": [
            {
                "timeUnixNano": str(event.timestamp_ns),
                "name": event.name,
                "attributes": _otlp_attributes(event.attributes),
            }
            for event in record.events
        ],
        "links": [
            {
                "traceId": link.trace_id,
                "spanId": link.span_id,
                "attributes": _otlp_attributes(link.attributes),
            }
            for link in record.links
        ],
        "status": {
            "code": _STATUS_CODES.get(status.code, 0) if status else 0,
            "message": (status.message or "") if status else "",
        },
    }


def _otlp_log(record: Record) -> dict[str, Any]:
    attributes = dict(record.attributes)
    if record.exception is not None:
        for key, value in (
            ("exception.type", record.exception.type),
            ("exception.message", record.exception.message),
            ("exception.stacktrace", record.exception.stacktrace),
        ):
            if value is not None:
                attributes.setdefault(key, value)
    if record.source is not None:
        for key, given in (
            ("code.file.path", record.source.file),
            ("code.line.number", record.source.line),
            ("code.function.name", record.source.function),
        ):
            if given is not None:
                attributes.setdefault(key, given)
    log = {
        "timeUnixNano": str(record.timestamp_ns),
        "observedTimeUnixNano": str(record.received_ns or record.timestamp_ns),
        "severityNumber": record.severity_number,
        "severityText": record.level,
        "body": {"stringValue": record.message or ""},
        "attributes": _otlp_attributes(attributes),
    }
    if record.trace_id is not None and record.span_id is not None:
        log |= {"traceId": record.trace_id, "spanId": record.span_id, "flags": record.trace_flags or 0}
    return log


def _otlp_attributes(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _otlp_value(value)} for key, value in attributes.items()]


def _otlp_value(value: Any) -> dict[str, Any]:
    """An `AnyValue`; 64-bit integers are text in JSON, as protobuf has it."""
    match value:
        case bool():
            return {"boolValue": value}
        case int() if value in _INT64:
            return {"intValue": str(value)}
        case int() | float():
            return {"doubleValue": float(value)}
        case list() | tuple():
            return {"arrayValue": {"values": [_otlp_value(item) for item in value]}}
        case dict():
            return {"kvlistValue": {"values": _otlp_attributes(value)}}
        case None:
            return {}
        case _:
            return {"stringValue": str(value)}


def _chrome_events(trace: Trace, pids: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    for service, pid in pids.items():
        yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": service}}
    lanes = _Lanes()
    # by time, longest first: only then can a lane forget the bars that have ended
    for node in sorted(trace.walk(), key=lambda node: (node.start_ns, -node.end_ns, node.depth)):
        pid = pids[node.service]
        lane = lanes.of(node)
        arguments = {"span_id": node.span_id, "finished": node.finished, **node.record.attributes}
        if node.record.status is not None:
            arguments["status"] = node.record.status.code
        yield {
            "ph": "X",
            "name": node.name,
            "cat": (node.record.span_kind or "span").lower(),
            "pid": pid,
            "tid": lane,
            "ts": node.start_ns / 1000,
            "dur": node.duration_ns / 1000,
            "args": arguments,
        }
        for log in node.logs:
            yield {
                "ph": "i",
                "s": "t",
                "name": f"{log.level} {log.message or ''}"[:200],
                "cat": "log",
                "pid": pid,
                "tid": lane,
                "ts": (log.timestamp_ns + node.skew_ns) / 1000,
                "args": dict(log.attributes),
            }


class _Lanes:
    """The rows of a process in Perfetto: bars in one row must nest, so siblings that overlap get rows."""

    def __init__(self) -> None:
        self._open: dict[str, list[list[int]]] = {}  # by service: for each lane, the ends of open bars

    def of(self, node: SpanNode) -> int:
        """The first lane of the node's service that it nests into; nodes come in order of their starts."""
        lanes = self._open.setdefault(node.service, [])
        for number, ends in enumerate(lanes):
            while ends and ends[-1] <= node.start_ns:
                ends.pop()
            if not ends or node.end_ns <= ends[-1]:
                ends.append(node.end_ns)
                return number
        lanes.append([node.end_ns])
        return len(lanes) - 1
