"""Somebody else's log lines -> fields of record lines: JSON in the usual dialects, or plain text. Pure.

There is no standard to follow, only habits: ECS, python-json-logger, structlog, bunyan and pino, zap,
logback's JSON, and text with ids in it. What is recognised gets our key; everything else is kept as an
attribute under its own name. Nothing is ever refused here.

Source: Elastic Common Schema 8 (field names); OpenTelemetry's and Datadog's names for ids in logs.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

import orjson

from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import dumps, parse_timestamp

DEPTH_MAX: Final = 8  # of nested objects whose keys are joined with dots; the rest is one value
TEXT_SEARCHED_CHARS_MAX: Final = 4_096  # ids and levels stand near the beginning of a line

_TIME_KEYS: Final = ("@timestamp", "timestamp", "time", "ts", "datetime", "asctime", "eventTime")
_LEVEL_KEYS: Final = ("log.level", "level", "severity", "levelname", "log_level", "severity_text", "lvl")
_MESSAGE_KEYS: Final = ("message", "msg", "log", "event", "body", "text", "MESSAGE")
_LOGGER_KEYS: Final = ("log.logger", "logger", "logger_name", "loggerName")
_SERVICE_KEYS: Final = ("service.name", "service", "service_name", "app", "application", "otelServiceName")
_TRACE_KEYS: Final = ("trace.id", "trace_id", "traceId", "traceid", "otelTraceID", "traceID", "trace")
_SPAN_KEYS: Final = ("span.id", "span_id", "spanId", "spanid", "otelSpanID", "spanID")
_EXCEPTION_KEYS: Final = {
    "type": ("error.type", "exception.type", "exc_type", "exception.class"),
    "message": ("error.message", "exception.message", "exc_message"),
    "stacktrace": (
        "error.stack_trace",
        "exception.stacktrace",
        "stack_trace",
        "exc_info",
        "exc_text",
        "traceback",
        "exception",
        "error.stack",
    ),
}
_SOURCE_KEYS: Final = {
    "file": ("log.origin.file.name", "code.file.path", "code.filepath", "pathname", "filename"),
    "line": ("log.origin.file.line", "code.line.number", "code.lineno", "lineno"),
    "function": ("log.origin.function", "code.function.name", "code.function", "funcName"),
}
# Numbers that bunyan and pino write; Python's own stand under `levelno`, which is passed over since the
# name stands beside it.
_LEVELS_BY_NUMBER: Final = {10: "TRACE", 20: "DEBUG", 30: "INFO", 40: "WARN", 50: "ERROR", 60: "FATAL"}

_HEX32: Final = re.compile(r"[0-9a-fA-F]{32}")
_HEX16: Final = re.compile(r"[0-9a-fA-F]{16}")
_TRACEPARENT: Final = re.compile(r"\b00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\b")
_TRACE_IN_TEXT: Final = re.compile(
    r"\b(?:otel)?(?:trace)[_.\- ]?(?:id)?[\"']?\s*[=:]\s*[\"']?"
    r"([0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b",
    re.IGNORECASE,
)
_SPAN_IN_TEXT: Final = re.compile(
    r"\b(?:otel)?span[_.\- ]?(?:id)?[\"']?\s*[=:]\s*[\"']?([0-9a-f]{16})\b", re.IGNORECASE
)
_LEVEL_IN_TEXT: Final = re.compile(
    r"(?<![\w/.-])(TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|SEVERE|CRITICAL|ALERT|EMERGENCY|FATAL)(?![\w/-])"
)
_LEVEL_ASSIGNED: Final = re.compile(r"\b(?:level|lvl|severity)=[\"']?(\w+)", re.IGNORECASE)
_TIME_IN_TEXT: Final = re.compile(
    r"\W?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d:?\d\d)?(?!\d)"
)
_TRACEBACK: Final = re.compile(r"^Traceback \(most recent call last\):$", re.MULTILINE)
_RAISED: Final = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*))?$", re.MULTILINE)


def fields_of_text(line: str, *, zone: tzinfo = UTC) -> dict[str, Any]:
    """The fields of one line: of a JSON object what it says, of text what is found in it.

    Args:
        line: without its newline; may hold several when a traceback belongs to it.
        zone: of times that do not name one.
    Returns:
        Fields by the keys of a record line. There is always a level; `timestamp` and `service` only
        when the line has them.
    """
    if line.startswith("{"):
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError:
            pass  # text that begins with a brace
        else:
            return fields_of_document(document, zone=zone)
    return _fields_of_plain_text(line, zone)


def fields_of_document(document: Mapping[str, Any], *, zone: tzinfo = UTC) -> dict[str, Any]:
    """The fields of one structured log record, nested or with dots in its keys; else as `fields_of_text`."""
    rest = dict(_flat(document, "", DEPTH_MAX))
    message = _taken(rest, _MESSAGE_KEYS, lambda value: value if isinstance(value, str) else None)
    exception = _parts(rest, _EXCEPTION_KEYS)
    source = _parts(rest, _SOURCE_KEYS)
    fields = {
        sc.TIMESTAMP: _taken(rest, _TIME_KEYS, lambda value: _time_ns(value, zone)),
        sc.LEVEL: _taken(rest, _LEVEL_KEYS, _level) or "INFO",
        sc.SERVICE: _taken(rest, _SERVICE_KEYS, _nonempty),
        sc.TRACE_ID: _taken(rest, _TRACE_KEYS, _trace_id),
        sc.SPAN_ID: _taken(rest, _SPAN_KEYS, _span_id),
        sc.MESSAGE: message,
        sc.LOGGER: _taken(rest, _LOGGER_KEYS, _nonempty),
        sc.EXCEPTION: exception or (message is not None and _exception_in(message)) or None,
        sc.SOURCE: source or None,
    }
    if fields[sc.TRACE_ID] is None:
        fields[sc.SPAN_ID] = None
    fields[sc.ATTRIBUTES] = rest or None
    return {key: value for key, value in fields.items() if value is not None}


def _fields_of_plain_text(line: str, zone: tzinfo) -> dict[str, Any]:
    head = line[:TEXT_SEARCHED_CHARS_MAX]
    fields: dict[str, Any] = {sc.LEVEL: _level_in(head), sc.MESSAGE: line}
    timestamp_ns = _time_in(head, zone)
    if timestamp_ns is not None:
        fields[sc.TIMESTAMP] = timestamp_ns
    fields |= ids_in(head)
    exception = _exception_in(line)
    if exception:
        fields[sc.EXCEPTION] = exception
    return fields


def ids_in(text: str) -> dict[str, str]:
    """The trace id, and the span id beside it, that stand in a text under their usual names."""
    parent = _TRACEPARENT.search(text)
    if parent is not None:
        trace_id, span_id = _trace_id(parent[1]), _span_id(parent[2])
    else:
        found, beside = _TRACE_IN_TEXT.search(text), _SPAN_IN_TEXT.search(text)
        trace_id = _trace_id(found[1]) if found else None
        span_id = _span_id(beside[1]) if beside else None
    if trace_id is None:
        return {}
    return {sc.TRACE_ID: trace_id} | ({sc.SPAN_ID: span_id} if span_id else {})


def _flat(document: Mapping[str, Any], prefix: str, depth_max: int) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping) and value and depth_max > 0:
            yield from _flat(value, f"{prefix}{key}.", depth_max - 1)
        elif value is not None:
            yield f"{prefix}{key}", value


def _taken(rest: dict[str, Any], keys: tuple[str, ...], read: Any) -> Any:
    """The first value under one of the keys that can be read as what it should be; it leaves `rest`."""
    for key in keys:
        if key in rest:
            value = read(rest[key])
            if value is not None:
                del rest[key]
                return value
    return None


def _parts(rest: dict[str, Any], keys: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    def read(value: Any) -> Any:
        return value if isinstance(value, str) and value else None

    def read_line(value: Any) -> Any:
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    found = {part: _taken(rest, names, read_line if part == "line" else read) for part, names in keys.items()}
    return {part: value for part, value in found.items() if value is not None}


def _nonempty(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _level(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return _LEVELS_BY_NUMBER.get(value)
    return sc.normal_level(value) if isinstance(value, str) else None


def _level_in(text: str) -> str:
    for pattern in (_LEVEL_ASSIGNED, _LEVEL_IN_TEXT):
        found = pattern.search(text)
        level = sc.normal_level(found[1]) if found else None
        if level is not None:
            return level
    return "INFO"


def _trace_id(value: Any) -> str | None:
    """32 hex; a UUID without its dashes, and an id of 64 bits filled with zeroes, are some too."""
    if not isinstance(value, str):
        return None
    text = value.rpartition("/")[2].replace("-", "")  # Google writes `projects/…/traces/<id>`
    if _HEX16.fullmatch(text):
        text = text.zfill(32)
    return text.lower() if _HEX32.fullmatch(text) and text.strip("0") else None


def _span_id(value: Any) -> str | None:
    is_id = isinstance(value, str) and _HEX16.fullmatch(value) and value.strip("0")
    return value.lower() if is_id else None


def _time_ns(value: Any, zone: tzinfo) -> int | None:
    """A time as text, or as a number of seconds, milliseconds, microseconds or nanoseconds."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        for unit_ns, most in ((10**9, 10**11), (10**6, 10**14), (10**3, 10**17), (1, 2**63)):
            if 0 < value < most:
                return value * unit_ns if isinstance(value, int) else round(value * unit_ns)
        return None
    return _time_in(value, zone) if isinstance(value, str) else None


def _time_in(text: str, zone: tzinfo) -> int | None:
    """The time that a text begins with."""
    found = _TIME_IN_TEXT.match(text)
    if found is None:
        return None
    date, clock, fraction, offset = found.groups()
    try:
        if offset is None:
            moment = datetime.fromisoformat(f"{date}T{clock}").replace(tzinfo=zone)
            return int(moment.timestamp()) * 10**9 + int((fraction or "").ljust(9, "0"))
        return parse_timestamp(f"{date}T{clock}.{fraction or '0'}{offset}")
    except (InvalidLine, ValueError, OverflowError):
        return None


def _exception_in(text: str) -> dict[str, str] | None:
    """A Python traceback that stands in a text: what was raised last, and the whole of it."""
    begin = _TRACEBACK.search(text)
    if begin is None:
        return None
    trace = text[begin.start() :]
    raised = deque(_RAISED.finditer(trace, len(begin[0])), maxlen=1)
    if not raised:
        return {"stacktrace": trace}
    exception = {"type": raised[0][1], "message": raised[0][2] or "", "stacktrace": trace}
    return {part: value for part, value in exception.items() if value}


def document_text(document: Mapping[str, Any]) -> str:
    """A document as one line, for records that have no message of their own."""
    text: str = dumps(document).decode()
    return text
