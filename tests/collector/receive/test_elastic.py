"""`_bulk` requests: actions, documents, and an answer that names each of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collector.admit import RefusedLine
from collector.errors import Refused
from collector.receive.elastic import answer, decode, read_actions
from collector.receive.foreign import Foreign, Unreadable


def bulk(*lines: Any) -> bytes:
    return b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )


def decoded(*lines: Any, index: str | None = None) -> list[Foreign | Unreadable]:
    return list(decode(read_actions(bulk(*lines), index=index)))


DOCUMENT = {
    "@timestamp": "2026-01-02T03:04:05Z",
    "message": "declined",
    "log.level": "error",
    "service": {"name": "orders", "node": {"name": "o-1"}},
    "host": {"name": "h"},
    "order": 7,
}


def test_documents_become_records() -> None:
    """By the Elastic Common Schema; host and instance are the resource's."""
    (one,) = decoded({"create": {"_index": "logs-app"}}, DOCUMENT)
    assert isinstance(one, Foreign)
    assert one.fields == {
        "timestamp": 1767323045000000000,
        "level": "ERROR",
        "service": "orders",
        "message": "declined",
        "attributes": {"order": 7, "elasticsearch.index": "logs-app"},
    }
    assert one.resource == {"service.name": "orders", "host.name": "h", "service.instance.id": "o-1"}
    assert one.uid is None


def test_an_id_is_an_identity() -> None:
    """The same index and id are the same record, in any request; numbers count as their text."""
    first, again, other_index, other_id = (
        one.uid
        for one in decoded(
            *({"index": {"_index": "a", "_id": 7}}, DOCUMENT),
            *({"create": {"_index": "a", "_id": "7"}}, DOCUMENT),
            *({"index": {"_index": "b", "_id": "7"}}, DOCUMENT),
            *({"index": {"_index": "a", "_id": "8"}}, DOCUMENT),
        )
        if isinstance(one, Foreign)
    )
    assert first == again
    assert len({first, other_index, other_id}) == 3
    assert first is not None and len(first) == 32


def test_the_index_of_the_path_is_for_actions_that_name_none() -> None:
    """As `POST /logs-app/_bulk` means it."""
    one, other = decoded({"create": {}}, DOCUMENT, {"create": {"_index": "x"}}, DOCUMENT, index="logs-app")
    assert isinstance(one, Foreign) and isinstance(other, Foreign)
    assert [item.fields["attributes"]["elasticsearch.index"] for item in (one, other)] == ["logs-app", "x"]


def test_a_document_without_a_message_is_its_own() -> None:
    """There is something to be read and searched."""
    (one,) = decoded({"create": {}}, {"a": {"b": 1}})
    assert isinstance(one, Foreign)
    assert (one.fields["message"], one.fields["service"]) == ('{"a":{"b":1}}', "unknown_service")


def test_neighbours_share_a_resource() -> None:
    """So that they share an envelope."""
    first, second = decoded({"create": {}}, DOCUMENT, {"create": {}}, DOCUMENT)
    assert isinstance(first, Foreign) and isinstance(second, Foreign)
    assert first.resource is second.resource


def test_what_is_not_taken_is_named_in_its_place() -> None:
    """Deletions, updates, broken documents: refused one by one, their neighbours stored."""
    actions = read_actions(
        bulk(
            *({"create": {"_index": "a"}}, DOCUMENT),
            {"delete": {"_index": "a", "_id": "1"}},
            *({"update": {"_id": "1"}}, {"doc": {}}),
            *({"index": {}}, b"not json"),
            *({"index": {}}, [1]),
            *({"create": {"_id": "9"}}, DOCUMENT),
            {"create": {}},
        )
    )
    found = list(decode(actions))
    reasons = [one.problem.reason if isinstance(one, Unreadable) else None for one in found]
    assert reasons == [None, "bad_kind", "bad_kind", "not_json", "not_object", None, "missing_field"]
    refused = {
        at: RefusedLine.of(one.problem, at) for at, one in enumerate(found) if isinstance(one, Unreadable)
    }
    said = json.loads(answer(actions, refused))
    assert said["errors"] is True
    assert [next(iter(item)) for item in said["items"]] == [
        "create",
        "delete",
        "update",
        "index",
        "index",
        "create",
        "create",
    ]
    statuses = [next(iter(item.values()))["status"] for item in said["items"]]
    assert statuses == [201, 400, 400, 400, 400, 201, 400]
    assert said["items"][5]["create"]["_id"] == "9"
    assert "line 7" in said["items"][3]["index"]["error"]["reason"]


def test_an_answer_without_errors() -> None:
    """What the shippers look at first."""
    actions = read_actions(bulk({"create": {}}, DOCUMENT))
    assert json.loads(answer(actions, {}))["errors"] is False
    assert read_actions(b"\n\n") == []


@pytest.mark.parametrize(
    "line", [b"nonsense", b"[]", b"{}", b'{"create":{},"index":{}}', b'{"drop":{}}', b'{"index":7}']
)
def test_an_action_that_cannot_be_read_is_the_end(line: bytes) -> None:
    """Nobody could tell what the lines after it are."""
    with pytest.raises(Refused, match="line 3") as refusal:
        read_actions(bulk({"create": {}}, DOCUMENT, line, DOCUMENT))
    assert refusal.value.reason == "bad_body"
