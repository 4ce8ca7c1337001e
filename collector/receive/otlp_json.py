"""OTLP logs and traces, JSON -> fields of record lines. Pure.

OTLP's JSON is protobuf's own mapping but for ids, which are hex. So each record becomes the protobuf
message that it stands for, and from there on both encodings are one. A record at a time, so that a
broken one leaves its neighbours whole.

Source: OTLP specification 1.x, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import orjson
from google.protobuf import json_format
from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.errors import Refused
from collector.receive.foreign import Decoded, Foreign, Unreadable
from collector.receive.otlp import attributes_of, log_fields, span_fields
from tracing.errors import InvalidLine

AnyMessage = TypeVar("AnyMessage", bound=Message)

# Both spellings are read, as protobuf's own mapping does.
_ID_KEYS: Final = (
    ("traceId", 16),
    ("spanId", 8),
    ("parentSpanId", 8),
    ("trace_id", 16),
    ("span_id", 8),
    ("parent_span_id", 8),
)


def decode_logs(body: bytes) -> Decoded:
    """Read an `ExportLogsServiceRequest`.

    Raises:
        Refused: `bad_body`; the whole is not one.
    """
    for resource, scope, item in _items(body, "resourceLogs", "scopeLogs", "logRecords"):
        try:
            yield Foreign(log_fields(_message(item, LogRecord()), scope, resource), resource)
        except InvalidLine as error:
            yield Unreadable(error)


def decode_traces(body: bytes) -> Decoded:
    """Read an `ExportTraceServiceRequest`.

    Raises:
        Refused: `bad_body`; the whole is not one.
    """
    for resource, scope, item in _items(body, "resourceSpans", "scopeSpans", "spans"):
        try:
            if isinstance(item, dict) and isinstance(item.get("links"), list):
                item = {**item, "links": [_with_bytes(link) for link in item["links"]]}
            yield Foreign(span_fields(_message(item, Span()), scope, resource), resource)
        except InvalidLine as error:
            yield Unreadable(error)


def _items(
    body: bytes, groups: str, parts: str, items: str
) -> Iterator[tuple[dict[str, Any], InstrumentationScope, Any]]:
    request = _parsed(body)
    if not isinstance(request, dict):
        raise Refused("bad_body", f"an object with {groups} is expected, got {type(request).__name__}")
    for group in _list(request, groups):
        scopes = _list(group, parts)
        resource = attributes_of(_whole(group, "resource", Resource()).attributes)
        for part in scopes:
            found = _list(part, items)
            scope = _whole(part, "scope", InstrumentationScope())
            for item in found:
                yield resource, scope, item


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(body)  # takes lone surrogates, NaN and Infinity, which admission mends
        except (ValueError, RecursionError):
            raise Refused("bad_body", f"not JSON: {error}") from None


def _list(parent: Any, key: str) -> list[Any]:
    snake = "".join(f"_{char.lower()}" if char.isupper() else char for char in key)
    if not isinstance(parent, dict):
        raise Refused("bad_body", f"an object with {key} is expected, got {type(parent).__name__}", field=key)
    found = parent.get(key, parent.get(snake))
    if found is None:
        return []
    if not isinstance(found, list):
        raise Refused("bad_body", f"{key}: a list is expected, got {type(found).__name__}", field=key)
    return found


def _whole(parent: dict[str, Any], key: str, message: AnyMessage) -> AnyMessage:
    try:
        return _message(parent.get(key) or {}, message)
    except InvalidLine as error:
        raise Refused("bad_body", f"{key}: {error}", field=key) from None


def _message(item: Any, message: AnyMessage) -> AnyMessage:
    try:
        json_format.ParseDict(_with_bytes(item), message, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise InvalidLine("wrong_type", str(error)) from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # what it does not foresee
        raise InvalidLine("wrong_type", f"{type(error).__name__}: {error}") from None
    return message


def _with_bytes(item: Any) -> Any:
    """Hex ids as base64, which protobuf's mapping expects."""
    if not isinstance(item, dict):
        raise InvalidLine("not_object", f"an object is expected, got {type(item).__name__}")
    found = {}
    for key, size in _ID_KEYS:
        text = item.get(key)
        if not text:
            continue
        try:
            raw = bytes.fromhex(text)
        except (ValueError, TypeError):
            raise InvalidLine(
                "bad_id", f"{key}: {2 * size} hex digits, got {text!r:.64}", field=key
            ) from None
        found[key] = base64.b64encode(raw).decode()
    return {**item, **found} if found else item
