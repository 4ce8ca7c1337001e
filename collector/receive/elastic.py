"""Elasticsearch's `_bulk`, the part of it that log shippers use -> fields of record lines. Pure.

`index` and `create` are taken and mean the same: nothing is ever overwritten here. A document with an
`_id` is identified by it. The answer names each action in order, as the shippers expect.

Source: Elasticsearch 8 reference, "Bulk API"; Elastic Common Schema for the documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import orjson

from collector.errors import Refused
from collector.receive.foreign import Decoded, Foreign, Unreadable
from collector.receive.loose import document_text, fields_of_document
from collector.receive.otlp import UNKNOWN_SERVICE
from tracing import semconv as sc
from tracing.errors import InvalidLine

INDEX: Final = "elasticsearch.index"  # where the sender wanted the document to go
_TAKEN: Final = ("create", "index")
_NOT_TAKEN: Final = ("delete", "update")
_HOST_KEYS: Final = ("host.name", "hostname", "agent.hostname", "host")
_INSTANCE_KEYS: Final = ("service.node.name", "service.instance.id", "kubernetes.pod.name", "container.id")


class Refusal(Protocol):
    """Why an action was not taken."""

    @property
    def reason(self) -> str:
        """One word."""
        ...

    @property
    def message(self) -> str:
        """For a person."""
        ...


class Action:
    """One action of a bulk request: what it wants done, and with which document."""

    __slots__ = ("doc_id", "document", "index", "name", "problem")

    def __init__(self, name: str, index: str, doc_id: str | None) -> None:
        self.name = name
        self.index = index
        self.doc_id = doc_id
        self.document: dict[str, Any] | None = None
        self.problem: InvalidLine | None = None


def read_actions(body: bytes, *, index: str | None = None) -> list[Action]:
    """Read the actions of a bulk request.

    Args:
        body: lines of JSON, an action and its document in turn.
        index: of the path, for actions that name none.
    Raises:
        Refused: `bad_body`; an action line cannot be read, so nobody can tell what follows it.
    """
    actions = []
    lines = _lines(body)
    for number, line in lines:
        action = _action(number, line, index)
        actions.append(action)
        if action.name == "delete":
            action.problem = InvalidLine("bad_kind", "records are not deleted this way", field="delete")
            continue
        document = next(lines, None)
        if document is None:
            action.problem = InvalidLine("missing_field", f"line {number}: the document is missing")
        else:
            _read_document(action, *document)
    return actions


def decode(actions: list[Action]) -> Decoded:
    """The records of a bulk request, one for each action, in order."""
    resources: dict[tuple[Any, ...], dict[str, Any]] = {}
    for action in actions:
        if action.problem is not None or action.document is None:
            yield Unreadable(action.problem or InvalidLine("missing_field", "the document is missing"))
            continue
        fields = fields_of_document(action.document)
        attributes: dict[str, Any] = fields.setdefault(sc.ATTRIBUTES, {})
        host = _moved(attributes, _HOST_KEYS)
        instance = _moved(attributes, _INSTANCE_KEYS)
        fields.setdefault(sc.SERVICE, UNKNOWN_SERVICE)
        fields.setdefault(sc.MESSAGE, document_text(action.document))
        if action.index:
            attributes[INDEX] = action.index
        resource = {sc.SERVICE_NAME: fields[sc.SERVICE], sc.HOST_NAME: host, sc.SERVICE_INSTANCE_ID: instance}
        kept = {key: value for key, value in resource.items() if value is not None}
        uid = None if action.doc_id is None else _uid(action.index, action.doc_id)
        yield Foreign(fields, resources.setdefault(tuple(kept.items()), kept), uid)


def answer(actions: list[Action], refused: Mapping[int, Refusal]) -> bytes:
    """The answer to a bulk request.

    Args:
        actions: as they were read.
        refused: what was not taken, by the action's place.
    """
    items = [{action.name: _item(at, action, refused.get(at))} for at, action in enumerate(actions)]
    return orjson.dumps({"took": 0, "errors": bool(refused), "items": items})


def _item(at: int, action: Action, refusal: Refusal | None) -> dict[str, Any]:
    item = {"_index": action.index, "_id": action.doc_id or f"{at}"}
    if refusal is None:
        shards = {"total": 1, "successful": 1, "failed": 0}
        return {**item, "_version": 1, "result": "created", "_shards": shards, "status": 201}
    error = {"type": "document_parsing_exception", "reason": f"{refusal.reason}: {refusal.message}"}
    return {**item, "status": 400, "error": error}


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(body.split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _action(number: int, line: bytes, index: str | None) -> Action:
    try:
        head = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _bad(number, f"an action is expected: {error}") from None
    if not isinstance(head, dict) or len(head) != 1:
        raise _bad(number, "an action is expected, an object with one key")
    ((name, meta),) = head.items()
    if name not in (*_TAKEN, *_NOT_TAKEN) or not isinstance(meta, dict):
        raise _bad(number, f"no such action: {name!r:.64}")
    doc_id = meta.get("_id")
    named = meta.get("_index", index)
    return Action(name, named if isinstance(named, str) else "", None if doc_id is None else str(doc_id))


def _read_document(action: Action, number: int, line: bytes) -> None:
    if action.name == "update":
        action.problem = InvalidLine("bad_kind", "records are not changed once they are here", field="update")
        return
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        action.problem = InvalidLine("not_json", f"line {number}: {error}")
        return
    if isinstance(document, dict):
        action.document = document
    else:
        action.problem = InvalidLine("not_object", f"line {number}: an object is expected")


def _moved(attributes: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    for key in keys:
        if isinstance(attributes.get(key), str):
            value: str = attributes.pop(key)
            return value
    return None


def _uid(index: str, doc_id: str) -> str:
    text = orjson.dumps([index, doc_id])
    return hashlib.blake2b(text, digest_size=16).hexdigest()


def _bad(number: int, message: str) -> Refused:
    return Refused("bad_body", f"line {number}: {message}", field=f"line {number}")
