"""One bulk request: its bytes, and what the answer says of each item. Pure.

Each item is a `create`: an `_id` that the write index has is answered with 409, which means already
stored and is no error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from collector.errors import Damaged
from collector.model import Record
from collector.store.elastic.connection import ErrorCause

# All that is read of an answer; the rest would be most of its bytes. The index only where it matters.
FILTER_PATH: Final = "items.*.status,items.*.error"
FILTER_PATH_WITH_INDEX: Final = f"{FILTER_PATH},items.*._index"
_TAKEN: Final = b'{"create":{"status":201}}'  # an item's part in such an answer, nearly every time
# Words of the cluster's that speak of itself or of an index and not of the record, whatever the status:
# the same record will be taken once a person has seen to it.
_NOT_THE_RECORDS: Final = frozenset(
    {
        "index_not_found_exception",  # a template or a privilege to make the stream is missing
        "index_closed_exception",
        "invalid_index_name_exception",
        "validation_exception",  # for instance: the cluster has as many shards as it may
    }
)
FIRST_PART: Final = 5  # of a full bulk, for the first of a batch
_FIELD: Final = re.compile(r"field \[([^\]]+)\]")


class Fate(StrEnum):
    """What became of an item."""

    STORED = "stored"
    ALREADY_STORED = "already_stored"
    LATER = "later"  # the server was busy or failed; the same item may be taken next time
    HELD = "held"  # credentials or privileges; a person must act
    REFUSED = "refused"  # never


class Verdict(msgspec.Struct, frozen=True):
    """The answer to one item."""

    fate: Fate
    index: str | None = None  # the backing index that took it or has it
    reason: str | None = None  # Elasticsearch's word for the trouble
    message: str | None = None
    field: str | None = None  # that the trouble is at, when the server says


STORED: Final = Verdict(Fate.STORED)  # nearly every item of nearly every bulk ends with this very one
_encode: Final = msgspec.json.Encoder().encode


class Item(msgspec.Struct, gc=False):
    """One record on its way."""

    record: Record
    stream: str
    id: str
    document: bytes
    doubtful: bool = False  # it may have been stored before: look it up in older indices first


def body_of(bulk: Sequence[Item]) -> bytes:
    """The lines of a bulk: of each item what is to be done, and the document."""
    streams = {item.stream for item in bulk}
    actions = {stream: b'{"create":{"_index":"%b","_id":' % stream.encode() for stream in streams}
    parts: list[bytes] = []
    for item in bulk:
        parts += actions[item.stream], _encode(item.id), b"}}\n", item.document, b"\n"
    return b"".join(parts)


def chunks(items: Iterable[Item], *, bytes_max: int, records_max: int) -> Iterable[list[Item]]:
    """Cut items into bulks by their documents' bytes; one that is too long by itself goes alone.

    The first is short, so that the server has something to do while the rest is still being encoded.
    """
    bulk: list[Item] = []
    size = 0
    limit = bytes_max // FIRST_PART
    for item in items:
        length = len(item.document)
        if bulk and (size + length > limit or len(bulk) >= records_max):
            yield bulk
            bulk, size, limit = [], 0, bytes_max
        bulk.append(item)
        size += length
    if bulk:
        yield bulk


class _Outcome(msgspec.Struct, frozen=True):
    status: int
    index: str | None = msgspec.field(name="_index", default=None)
    error: ErrorCause | None = None


class _AnswerItem(msgspec.Struct, frozen=True):
    create: _Outcome | None = None
    delete: _Outcome | None = None


class _Answer(msgspec.Struct, frozen=True):
    items: list[_AnswerItem] = []


def read_answer(body: bytes, items: Sequence[Item]) -> list[Verdict]:
    """The verdicts, in the items' order.

    Raises:
        Damaged: as many items did not come back as went in; then nothing is known of any.
    """
    if body == b'{"items":[%b]}' % b",".join([_TAKEN] * len(items)):
        return [STORED] * len(items)
    try:
        answered = msgspec.json.decode(body, type=_Answer).items
    except msgspec.MsgspecError as error:
        raise Damaged(f"the answer to a bulk cannot be read: {error}: {body[:200]!r}") from None
    outcomes = [one.create for one in answered if one.create is not None]
    if len(outcomes) != len(items):
        raise Damaged(f"{len(items)} items went into a bulk and {len(outcomes)} came back")
    return [_verdict(outcome) for outcome in outcomes]


def _verdict(outcome: _Outcome) -> Verdict:
    status = outcome.status
    if 200 <= status < 300:
        return Verdict(Fate.STORED, outcome.index) if outcome.index else STORED
    if status == 409:
        return Verdict(Fate.ALREADY_STORED, outcome.index)
    cause = outcome.error or ErrorCause()
    field = _FIELD.search(cause.sentence)
    if status == 429 or status >= 500 or cause.type == "cluster_block_exception":
        fate = Fate.LATER
    elif status in (401, 403, 404) or cause.type in _NOT_THE_RECORDS:
        fate = Fate.HELD
    else:
        fate = Fate.REFUSED
    return Verdict(fate, outcome.index, cause.type, cause.sentence[:1_000], field[1] if field else None)
