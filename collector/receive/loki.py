"""Loki's push requests, JSON and protobuf -> fields of record lines. Pure.

The labels of a stream are what it is: they become the resource. What is in a line is found as in any
other text (`loose.py`); its structured metadata are attributes, and ids among them count.

Source: Grafana Loki, "HTTP API", `POST /loki/api/v1/push`; `pkg/push/push.proto` for the field numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

from collector.errors import Refused
from collector.receive.foreign import Decoded, Foreign, Unreadable
from collector.receive.loose import fields_of_document, fields_of_text
from collector.receive.otlp import UNKNOWN_SERVICE
from tracing import semconv as sc
from tracing.errors import InvalidLine

_SERVICE_LABELS: Final = ("service_name", "service", "app", "application", "job", "container")
_INSTANCE_LABELS: Final = ("service_instance_id", "instance", "pod")
_LEVEL_LABELS: Final = ("level", "detected_level", "severity")
_LABEL: Final = re.compile(r'\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*("(?:[^"\\]|\\.)*")\s*(?:,|$)')

Entry = tuple[int, str, dict[str, Any]]  # nanoseconds, line, structured metadata


def decode_json(body: bytes) -> Decoded:
    """Read a push request in JSON.

    Raises:
        Refused: `bad_body`; it is not one.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused("bad_body", f"not JSON: {error}") from None
    streams = request.get("streams") if isinstance(request, dict) else None
    if not isinstance(streams, list):
        raise Refused("bad_body", "streams: a list is expected", field="streams")
    for stream in streams:
        labels = stream.get("stream") if isinstance(stream, dict) else None
        values = stream.get("values") if isinstance(stream, dict) else None
        if not isinstance(labels, dict) or not isinstance(values, list):
            yield Unreadable(InvalidLine("wrong_type", "a stream has labels and values", field="streams"))
            continue
        resource = _resource(labels)
        for value in values:
            try:
                yield _decoded(_entry(value), labels, resource)
            except InvalidLine as error:
                yield Unreadable(error)


def decode_protobuf(body: bytes) -> Decoded:
    """Read a push request in protobuf, already unpacked.

    Raises:
        Refused: `bad_body`; it is not one.
    """
    try:
        streams = [dict_of(stream) for number, stream in _messages(body) if number == 1]
        for stream in streams:
            labels = _labels(_first_text(stream, 1))
            resource = _resource(labels)
            for entry in stream.get(2, []):
                yield _decoded(_protobuf_entry(dict_of(_bytes(entry))), labels, resource)
    except (ValueError, IndexError) as error:  # what is not UTF-8, and what ends in the middle
        raise Refused("bad_body", f"not a push request: {error}") from None


def _decoded(entry: Entry, labels: dict[str, Any], resource: dict[str, Any]) -> Foreign:
    timestamp_ns, line, metadata = entry
    fields = fields_of_text(line)
    told = fields_of_document(metadata)
    attributes = {**(fields.get(sc.ATTRIBUTES) or {}), **(told.get(sc.ATTRIBUTES) or {})}
    level = next((found for label in _LEVEL_LABELS if (found := _level(labels.get(label)))), None)
    for key in (sc.TRACE_ID, sc.SPAN_ID):
        if key in told:
            fields[key] = told[key]
    fields |= {
        sc.TIMESTAMP: timestamp_ns,
        sc.LEVEL: level
        or _level(metadata.get("level"))
        or _level(metadata.get("detected_level"))
        or fields[sc.LEVEL],
        sc.SERVICE: resource[sc.SERVICE_NAME],
    }
    fields.setdefault(sc.MESSAGE, line)
    fields[sc.ATTRIBUTES] = attributes or None
    return Foreign(fields, resource)


def _level(value: Any) -> str | None:
    return sc.normal_level(value) if isinstance(value, str) else None


def _resource(labels: dict[str, Any]) -> dict[str, Any]:
    service = next((labels[label] for label in _SERVICE_LABELS if isinstance(labels.get(label), str)), None)
    instance = next((labels[label] for label in _INSTANCE_LABELS if isinstance(labels.get(label), str)), None)
    resource = {sc.SERVICE_NAME: service or UNKNOWN_SERVICE}
    if instance:
        resource[sc.SERVICE_INSTANCE_ID] = instance
    return {**resource, **{label: value for label, value in labels.items() if label not in _LEVEL_LABELS}}


def _entry(value: Any) -> Entry:
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise InvalidLine("wrong_type", f"values: [time, line] expected, got {value!r:.64}", field="values")
    time, line, metadata = (*value, {})[:3]
    if not isinstance(time, str) or not time.isascii() or not time.isdigit() or not isinstance(line, str):
        raise InvalidLine("wrong_type", f"values: nanoseconds and a line as text, got {value!r:.64}")
    if not isinstance(metadata, dict):
        raise InvalidLine("wrong_type", f"values: an object of metadata expected, got {metadata!r:.64}")
    return int(time[:20]), line, metadata


def _labels(text: str) -> dict[str, Any]:
    """`{app="orders", pod="o-1"}` as a mapping."""
    inner, at = text.strip().removeprefix("{").removesuffix("}"), 0
    labels: dict[str, Any] = {}
    while at < len(inner.rstrip()):
        found = _LABEL.match(inner, at)
        if found is None:
            raise ValueError(f"labels: {text[:64]!r}")
        labels[found[1]] = orjson.loads(found[2])
        at = found.end()
    return labels


def _protobuf_entry(entry: dict[int, list[int | bytes]]) -> Entry:
    time = dict_of(_bytes(entry.get(1, [b""])[0]))
    seconds, nanoseconds = (time.get(number, [0])[0] for number in (1, 2))
    if isinstance(seconds, bytes) or isinstance(nanoseconds, bytes):
        raise ValueError("a time is two numbers")
    pairs = (dict_of(_bytes(pair)) for pair in entry.get(3, []))
    metadata: dict[str, Any] = {_first_text(pair, 1): _first_text(pair, 2) for pair in pairs}
    return seconds * 10**9 + nanoseconds, _first_text(entry, 2), metadata


# ---------------------------------------------------------------- protobuf's wire format


def dict_of(message: int | bytes) -> dict[int, list[int | bytes]]:
    """The fields of a protobuf message by number."""
    fields: dict[int, list[int | bytes]] = {}
    for number, value in _messages(_bytes(message)):
        fields.setdefault(number, []).append(value)
    return fields


def _messages(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                value, at = _varint(data, at)
                yield key >> 3, value
            case 1 | 5 as kind:
                size = 8 if kind == 1 else 4
                yield key >> 3, data[at : at + size]
                at += size
            case 2:
                size, at = _varint(data, at)
                if at + size > len(data):
                    raise ValueError("it ends in the middle")
                yield key >> 3, data[at : at + size]
                at += size
            case kind:
                raise ValueError(f"wire type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number beyond 64 bits")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes are expected")
    return value


def _first_text(fields: dict[int, list[int | bytes]], number: int) -> str:
    return _bytes(fields.get(number, [b""])[0]).decode()
