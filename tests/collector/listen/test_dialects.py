"""The dialects' own words: statuses, bodies and headers that their senders act on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.intake import Intake, IntakeLimits, open_log
from collector.listen.dialects import DialectRoute, HttpAnswer, HttpCall, dialect_routes
from collector.wal import Wal, WalLimits

SPAN = {"traceId": "1" * 32, "id": "2" * 16, "timestamp": 5, "duration": 1}
PUSH = {"streams": [{"stream": {"app": "orders"}, "values": [["1", "hello"]]}]}


class Dialects:
    """Every route by name, on a log of its own."""

    def __init__(self, directory: Path, *, wal: WalLimits) -> None:
        self.wal, self.ledger = open_log(directory, durable_seq=0, wal_limits=wal)
        intake = Intake(self.wal, self.ledger, limits=IntakeLimits(unpacked_bytes_max=100_000))
        self.routes: dict[str, DialectRoute] = {route.name: route for route in dialect_routes(intake)}

    def call(
        self, route: str, body: Any = b"", headers: dict[str, str] | None = None, **path: str
    ) -> HttpAnswer:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.routes[route].answer(HttpCall(headers=headers or {}, body=data, path_parameters=path))


@pytest.fixture
def dialects(tmp_path: Path) -> Iterator[Dialects]:
    one = Dialects(tmp_path, wal=WalLimits(disk_free_bytes_min=0))
    yield one
    one.wal.close()
    one.ledger.close()


@pytest.fixture
def full(tmp_path: Path) -> Dialects:
    """No room for anything."""
    return Dialects(tmp_path, wal=WalLimits(disk_free_bytes_min=2**60, retry_after_s=4.0))


def lines(wal: Wal) -> list[dict[str, Any]]:
    return [json.loads(text) for frame in wal.read(0, 10**6) for text in frame.split()]


JSON = {"content-type": "application/json"}


def test_zipkin(dialects: Dialects) -> None:
    """202 when taken, in part too; 400 when nothing was."""
    assert dialects.call("zipkinSpans", [SPAN]).status == 202
    partly = dialects.call("zipkinSpans", [{**SPAN, "id": "3"}, {"id": "x"}])
    assert (partly.status, b"1 refused" in partly.body) == (202, True)
    assert dialects.call("zipkinSpans", [{"id": "x"}]).status == 400
    assert dialects.call("zipkinSpans", b"nonsense").status == 400
    assert dialects.call("zipkinSpans", b" " * 200_000).status == 413
    assert [one["span_id"] for one in lines(dialects.wal)] == ["2" * 16, "3".zfill(16)]


def test_loki(dialects: Dialects) -> None:
    """204 when taken; 400 names what was not; other types and encodings are told."""
    assert dialects.call("lokiPush", PUSH, JSON).status == 204
    assert [one["message"] for one in lines(dialects.wal)] == ["hello"]
    partly = {"streams": [{"stream": {}, "values": [["1", "good"], ["x", "bad"]]}]}
    answer = dialects.call("lokiPush", partly, JSON)
    assert (answer.status, b"1 refused" in answer.body) == (400, True)
    assert [one["message"] for one in lines(dialects.wal)] == ["hello", "good"]
    assert dialects.call("lokiPush", b"x", {"content-type": "text/plain"}).status == 415
    assert dialects.call("lokiPush", b"x", {"content-type": "application/x-protobuf"}).status == 400
    assert dialects.call("lokiPush", b"x", {**JSON, "content-encoding": "br"}).status == 415


def test_elasticsearch(dialects: Dialects) -> None:
    """200 with a status for each action, the product header on everything, errors in its form."""
    body = b'{"create":{}}\n{"message":"hello"}\n{"delete":{"_id":"1"}}\n'
    answer = dialects.call("elasticBulkIndex", body, index="logs-app")
    said = json.loads(answer.body)
    assert answer.status == 200 and answer.headers["X-Elastic-Product"] == "Elasticsearch"
    assert [next(iter(item.values()))["status"] for item in said["items"]] == [201, 400]
    assert said["items"][0]["create"]["_index"] == "logs-app"
    assert lines(dialects.wal)[0]["attributes"] == {"elasticsearch.index": "logs-app"}
    bad = dialects.call("elasticBulk", b"nonsense\n")
    assert bad.status == 400 and json.loads(bad.body)["error"]["type"] == "bad_body"
    assert bad.headers["X-Elastic-Product"] == "Elasticsearch"


def test_a_bulk_request_that_comes_again_gets_the_same_answer(dialects: Dialects) -> None:
    """The shipper may not have heard which of its documents were refused."""
    body = b"".join(b'{"create":{}}\n{"message":"%d"}\n{"create":{}}\n7\n' % n for n in range(1200))
    first = dialects.call("elasticBulk", body)
    again = dialects.call("elasticBulk", body)
    statuses = [next(iter(item.values()))["status"] for item in json.loads(first.body)["items"]]
    assert statuses == [201, 400] * 1200, "each of them, however many"
    assert json.loads(again.body) == json.loads(first.body)
    assert len(lines(dialects.wal)) == 1200


def test_the_handshake_of_elasticsearch(dialects: Dialects) -> None:
    """What clients ask before they send; what they set up is accepted and means nothing."""
    hello = json.loads(dialects.call("elasticHello").body)
    assert hello["version"]["number"] == "8.14.0" and hello["tagline"] == "You Know, for Search"
    assert json.loads(dialects.call("elasticLicense").body)["license"]["status"] == "active"
    assert json.loads(dialects.call("elasticXpack").body)["license"]["mode"] == "basic"
    assert json.loads(dialects.call("elasticHealth").body)["status"] == "green"
    for name in ("elasticIndexTemplate", "elasticPolicy", "elasticPipeline", "elasticDataStream"):
        answer = dialects.call(name, b"{}", name="x")
        assert (answer.status, json.loads(answer.body)) == (200, {"acknowledged": True})


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("zipkinSpans", [SPAN], 503),
        ("lokiPush", PUSH, 429),
        ("elasticBulk", b'{"create":{}}\n{"message":"a"}\n', 429),
    ],
)
def test_without_room_every_sender_is_told_to_come_back(
    full: Dialects, name: str, body: Any, status: int
) -> None:
    """With the status that its protocol sends again."""
    answer = full.call(name, body, JSON)
    assert (answer.status, answer.headers["Retry-After"]) == (status, "4")
    assert full.wal.last_seq == 0


def test_names_of_routes_are_unique(dialects: Dialects) -> None:
    """They are labels of counters."""
    assert len(dialects.routes) == len({(r.path, r.methods) for r in dialects.routes.values()})
