"""Zipkin v2 spans, JSON -> fields of record lines. Pure.

Source: zipkin-api, `zipkin2-api.yaml` (the model); OpenTelemetry, "Zipkin" (tags that the SDKs write).
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

import orjson

from collector.errors import Refused
from collector.receive.foreign import Decoded, Foreign, Unreadable
from collector.receive.otlp import UNKNOWN_SERVICE
from tracing import semconv as sc
from tracing.errors import InvalidLine

PEER_SERVICE: Final = "peer.service"
PEER_ADDRESS: Final = "network.peer.address"
PEER_PORT: Final = "network.peer.port"
HOST_IP: Final = "host.ip"
DURATION_MISSING: Final = "zipkin.duration_missing"  # the sender did not say how long it took

_HEX: Final = re.compile(r"[0-9a-fA-F]{1,32}")
_KINDS: Final = ("CLIENT", "SERVER", "PRODUCER", "CONSUMER")
# Tags that say what our line has a key for; each with what it was called before.
_LOGGER_TAGS: Final = ("otel.scope.name", "otel.library.name")
_STATUS_TAGS: Final = ("otel.status_code", "otel.status_description", "error")

Place = tuple[str, str, str]  # trace id, span id, service


def decode_spans(body: bytes) -> Decoded:
    """Read the list of spans that `POST /api/v2/spans` carries.

    A server may share the span id of its client. Here ids are unique in a trace, so the server's span
    gets one of its own, made from the shared one, and becomes the client's child; spans of the same
    request that the server's service put under the shared id are put under it.

    Raises:
        Refused: `bad_body`; it is not a list.
    """
    try:
        spans = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused("bad_body", f"not JSON: {error}") from None
    if not isinstance(spans, list):
        raise Refused("bad_body", f"a list of spans is expected, got {type(spans).__name__}")
    shared = {place for span in spans if (place := _shared_place(span)) is not None}
    resources: dict[tuple[str, str | None], dict[str, Any]] = {}
    for span in spans:
        try:
            yield _decoded(span, shared, resources)
        except InvalidLine as error:
            yield Unreadable(error)


def _decoded(
    span: Any, shared: set[Place], resources: dict[tuple[str, str | None], dict[str, Any]]
) -> Foreign:
    if not isinstance(span, dict):
        raise InvalidLine("not_object", f"a span is expected, got {type(span).__name__}")
    trace_id, span_id = _id(span, "traceId", 32), _id(span, "id", 16)
    parent_id = _id(span, "parentId", 16) if span.get("parentId") else None
    local = _object(span, "localEndpoint")
    service = _text(local, "serviceName") or UNKNOWN_SERVICE
    address = _text(local, "ipv4") or _text(local, "ipv6")
    place = (trace_id, span_id, service)
    if place in shared and _is_shared(span):
        parent_id, span_id = span_id, _server_id(trace_id, span_id)
    elif parent_id is not None and (trace_id, parent_id, service) in shared:
        parent_id = _server_id(trace_id, parent_id)
    tags = _object(span, "tags")
    status = _status(tags)
    duration_us = _count(span, "duration")
    resource = resources.setdefault(
        (service, address), {sc.SERVICE_NAME: service} | ({HOST_IP: address} if address else {})
    )
    fields = {
        sc.TIMESTAMP: _start_ns(span),
        sc.LEVEL: "ERROR" if status and status["code"] == "ERROR" else "INFO",
        sc.SERVICE: service,
        sc.TRACE_ID: trace_id,
        sc.SPAN_ID: span_id,
        sc.KIND: sc.KIND_SPAN,
        sc.LOGGER: next((tags[tag] for tag in _LOGGER_TAGS if isinstance(tags.get(tag), str)), None),
        sc.ATTRIBUTES: _attributes(span, tags, duration_us) or None,
        sc.NAME: _text(span, "name") or "",
        sc.SPAN_KIND: span["kind"] if span.get("kind") in _KINDS else "INTERNAL",
        sc.PARENT_SPAN_ID: parent_id,
        sc.DURATION_NS: (duration_us or 0) * 1000,
        sc.STATUS: status,
        sc.EVENTS: [_event(one) for one in _list(span, "annotations")] or None,
    }
    return Foreign(fields, resource)


def _attributes(span: dict[str, Any], tags: dict[str, Any], duration_us: int | None) -> dict[str, Any]:
    attributes = {
        tag: value for tag, value in tags.items() if tag not in _STATUS_TAGS and tag not in _LOGGER_TAGS
    }
    code = tags.get("http.status_code")
    if isinstance(code, str) and code.isascii() and code.isdigit():
        attributes.setdefault(sc.HTTP_RESPONSE_STATUS_CODE, int(code))
    remote = _object(span, "remoteEndpoint")
    for key, value in (
        (PEER_SERVICE, _text(remote, "serviceName")),
        (PEER_ADDRESS, _text(remote, "ipv4") or _text(remote, "ipv6")),
        (PEER_PORT, _count(remote, "port")),
    ):
        if value:
            attributes.setdefault(key, value)
    if duration_us is None:
        attributes[DURATION_MISSING] = True
    return attributes


def _status(tags: dict[str, Any]) -> dict[str, str] | None:
    """The status: as OpenTelemetry's tags say, else the tag `error`, whose mere presence is an error."""
    code = tags.get("otel.status_code")
    error = tags.get("error")
    if code not in ("OK", "ERROR"):
        if error is None or error is False or error == "false":
            return None
        code = "ERROR"
    message = tags.get("otel.status_description") or (error if error not in ("true", True) else None)
    return {"code": code, "message": str(message)} if message else {"code": code}


def _start_ns(span: dict[str, Any]) -> int | None:
    """When it started; a span that does not say began with its first annotation, if there is one."""
    start_us = _count(span, "timestamp")
    if start_us is None:
        start_us = min(
            (at for one in _list(span, "annotations") if (at := _count(one, "timestamp")) is not None),
            default=None,
        )
    return None if start_us is None else start_us * 1000


def _event(annotation: Any) -> dict[str, Any]:
    if not isinstance(annotation, dict):
        raise InvalidLine("wrong_type", f"annotations: an object expected, got {annotation!r:.64}")
    at_us = _count(annotation, "timestamp")
    return {"timestamp": None if at_us is None else at_us * 1000, "name": _text(annotation, "value") or ""}


def _is_shared(span: dict[str, Any]) -> bool:
    return span.get("shared") is True and span.get("kind") == "SERVER"


def _shared_place(span: Any) -> Place | None:
    if not isinstance(span, dict) or not _is_shared(span):
        return None
    try:
        service = _text(_object(span, "localEndpoint"), "serviceName") or UNKNOWN_SERVICE
        return _id(span, "traceId", 32), _id(span, "id", 16), service
    except InvalidLine:
        return None  # refused when its turn comes


def _server_id(trace_id: str, span_id: str) -> str:
    digest = hashlib.blake2b(f"{trace_id}-{span_id}-server".encode(), digest_size=8).hexdigest()
    return digest if digest.strip("0") else "1".zfill(16)


def _id(span: dict[str, Any], key: str, digits: int) -> str:
    """An id at its full length: shorter ones are filled with zeroes, as B3 has it."""
    value = span.get(key)
    if not isinstance(value, str) or not _HEX.fullmatch(value) or len(value) > digits:
        raise InvalidLine("bad_id", f"{key}: at most {digits} hex digits, got {value!r:.64}", field=key)
    return value.lower().zfill(digits)


def _object(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidLine("wrong_type", f"{key}: an object expected, got {value!r:.64}", field=key)
    return value


def _list(parent: Any, key: str) -> list[Any]:
    value = parent.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidLine("wrong_type", f"{key}: a list expected, got {value!r:.64}", field=key)
    return value


def _text(parent: dict[str, Any], key: str) -> str | None:
    value = parent.get(key)
    if value is None or isinstance(value, str):
        return value
    raise InvalidLine("wrong_type", f"{key}: text expected, got {value!r:.64}", field=key)


def _count(parent: Any, key: str) -> int | None:
    """A number of microseconds, or a port; some senders write whole numbers as floats."""
    value = parent.get(key) if isinstance(parent, dict) else None
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidLine("wrong_type", f"{key}: a count expected, got {value!r:.64}", field=key)
    return value
