"""Zipkin v2 spans: the model of its API, shared ids, and what its senders get wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector.errors import Refused
from collector.receive.foreign import Foreign, Unreadable
from collector.receive.zipkin import decode_spans

TRACE = "5982fe77008310cc80f1da5e10147517"
# The example of zipkin-api's documentation, completed.
CLIENT: dict[str, Any] = {
    "traceId": TRACE,
    "parentId": "bd7a977555f6b982",
    "id": "be2d01e33cc78d97",
    "kind": "CLIENT",
    "name": "get",
    "timestamp": 1458702548786000,
    "duration": 13000,
    "localEndpoint": {"serviceName": "frontend", "ipv4": "192.168.99.1", "port": 60000},
    "remoteEndpoint": {"serviceName": "backend", "ipv4": "192.168.99.101", "port": 9000},
    "annotations": [{"timestamp": 1458702548789000, "value": "ws"}],
    "tags": {"http.path": "/api", "http.status_code": "500", "error": "500", "otel.scope.name": "okhttp"},
}
SERVER: dict[str, Any] = {
    "traceId": TRACE,
    "parentId": "bd7a977555f6b982",
    "id": "be2d01e33cc78d97",
    "kind": "SERVER",
    "shared": True,
    "name": "get /api",
    "timestamp": 1458702548787000,
    "duration": 9000,
    "localEndpoint": {"serviceName": "backend"},
}


def decoded(*spans: Any) -> list[Foreign | Unreadable]:
    return list(decode_spans(json.dumps(list(spans)).encode()))


def fields(*spans: Any) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in one.fields.items() if value is not None}
        for one in decoded(*spans)
        if isinstance(one, Foreign)
    ]


def test_every_field_of_the_model_has_a_place() -> None:
    """Endpoints, annotations, tags, the error tag, microseconds."""
    (one,) = decoded(CLIENT)
    assert isinstance(one, Foreign)
    assert fields(CLIENT) == [
        {
            "timestamp": 1458702548786000000,
            "level": "ERROR",
            "service": "frontend",
            "trace_id": TRACE,
            "span_id": "be2d01e33cc78d97",
            "kind": "span",
            "logger": "okhttp",
            "attributes": {
                "http.path": "/api",
                "http.status_code": "500",
                "http.response.status_code": 500,
                "peer.service": "backend",
                "network.peer.address": "192.168.99.101",
                "network.peer.port": 9000,
            },
            "name": "get",
            "span_kind": "CLIENT",
            "parent_span_id": "bd7a977555f6b982",
            "duration_ns": 13_000_000,
            "status": {"code": "ERROR", "message": "500"},
            "events": [{"timestamp": 1458702548789000000, "name": "ws"}],
        }
    ]
    assert one.resource == {"service.name": "frontend", "host.ip": "192.168.99.1"}


def test_a_shared_id_becomes_two() -> None:
    """The server's span is the client's child, and the server's own children stay with it."""
    child = {**CLIENT, "id": "1" * 16, "parentId": SERVER["id"], "localEndpoint": {"serviceName": "backend"}}
    stranger = {**child, "id": "2" * 16, "localEndpoint": {"serviceName": "frontend"}}
    client, server, under_server, under_client = fields(CLIENT, SERVER, child, stranger)
    assert client["span_id"] == server["parent_span_id"] == under_client["parent_span_id"]
    assert server["span_id"] == under_server["parent_span_id"] != client["span_id"]
    assert fields(child, SERVER)[1]["span_id"] == server["span_id"], "the same in every request and order"


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        ({}, None),
        ({"error": "false"}, None),
        ({"error": "true"}, {"code": "ERROR"}),
        ({"error": ""}, {"code": "ERROR"}),
        ({"error": "timed out"}, {"code": "ERROR", "message": "timed out"}),
        ({"otel.status_code": "OK"}, {"code": "OK"}),
        (
            {"otel.status_code": "ERROR", "otel.status_description": "bad", "error": "bad"},
            {"code": "ERROR", "message": "bad"},
        ),
    ],
)
def test_status(tags: dict[str, str], status: dict[str, str] | None) -> None:
    """OpenTelemetry's tags first, else the mere presence of `error`."""
    (one,) = fields({**CLIENT, "tags": tags})
    assert one.get("status") == status
    assert one["level"] == ("ERROR" if status and status["code"] == "ERROR" else "INFO")


def test_what_is_missing_is_said_or_made_up() -> None:
    """Ids of 64 bits, no duration, no start but an annotation, no names at all."""
    (one,) = fields(
        {"traceId": "80f1da5e10147517", "id": "1", "annotations": [{"timestamp": 7.0, "value": "a"}]}
    )
    assert (one["trace_id"], one["span_id"]) == ("0" * 16 + "80f1da5e10147517", "0" * 15 + "1")
    assert (one["timestamp"], one["duration_ns"], one["name"]) == (7_000, 0, "")
    assert (one["span_kind"], one["service"]) == ("INTERNAL", "unknown_service")
    assert one["attributes"] == {"zipkin.duration_missing": True}
    assert "timestamp" not in fields({"traceId": TRACE, "id": "1"})[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"traceId": None}, "bad_id"),
        ({"traceId": "x" * 32}, "bad_id"),
        ({"traceId": TRACE + "0"}, "bad_id"),
        ({"id": "0" * 17}, "bad_id"),
        ({"parentId": 7}, "bad_id"),
        ({"name": 7}, "wrong_type"),
        ({"timestamp": "now"}, "wrong_type"),
        ({"duration": -1}, "wrong_type"),
        ({"duration": 1.5}, "wrong_type"),
        ({"tags": []}, "wrong_type"),
        ({"annotations": {}}, "wrong_type"),
        ({"annotations": [7]}, "wrong_type"),
        ({"localEndpoint": "x"}, "wrong_type"),
        ({"localEndpoint": {"serviceName": 7}, "shared": True, "kind": "SERVER"}, "wrong_type"),
    ],
)
def test_a_bad_span_leaves_its_neighbours(change: dict[str, Any], reason: str) -> None:
    """One by one, by name."""
    before, bad, after = decoded(CLIENT, {**CLIENT, **change}, SERVER)
    assert isinstance(before, Foreign) and isinstance(after, Foreign)
    assert isinstance(bad, Unreadable) and bad.problem.reason == reason
    assert isinstance(decoded(7)[0], Unreadable)


@pytest.mark.parametrize("body", [b"", b"{}", b"7", b"[", b"\xff"])
def test_what_is_no_list_is_refused(body: bytes) -> None:
    """As a whole."""
    with pytest.raises(Refused) as refusal:
        list(decode_spans(body))
    assert refusal.value.reason == "bad_body"
