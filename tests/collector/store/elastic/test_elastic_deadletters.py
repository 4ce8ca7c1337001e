"""Refused records: kept with the reason, shown, mended, sent again once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from collector.errors import NotFound, StoreFailed
from collector.model import Record, Status
from collector.store.conditions import Equals
from collector.store.contract import Appended
from collector.store.deadletters import DeadLetters, make_letter
from collector.store.elastic import ElasticStore, open_store
from collector.testing.store_samples import log, nasty_records, numbered

VERSION = "9.4.3"


def letter_of(record: Record, **more: object) -> object:
    return make_letter(record, "logs", reason="bad", message="no", refused_ns=1, **more)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dead-letters.ndjson"


def test_a_letter_gives_the_record_back(path: Path) -> None:
    """Whatever was in it, also after a restart, in the order they came."""
    letters = DeadLetters(path, bytes_max=10**8)
    records = nasty_records()
    letters.add([letter_of(record) for record in records])  # type: ignore[misc]
    again = DeadLetters(path, bytes_max=10**8)
    assert [letter.as_record() for letter in again.page(limit=999)] == [
        letter.as_record() for letter in letters.page(limit=999)
    ]
    assert [letter.uid for letter in again.page(limit=999)] == [record.uid for record in records]
    third = again.page(limit=3)[2]
    assert again.page(limit=1, after=third.uid)[0].uid == records[3].uid


def test_what_was_dealt_with_is_gone(path: Path) -> None:
    """After a restart, too; a letter that comes again replaces the one before."""
    letters = DeadLetters(path, bytes_max=10**8)
    letters.add([letter_of(log(1)), letter_of(log(2))])  # type: ignore[list-item]
    letters.add([letter_of(log(1), field="mended")])  # type: ignore[list-item]
    letters.remove([log(2).uid, "unknown"])
    for one in (letters, DeadLetters(path, bytes_max=10**8)):
        assert len(one) == 1
        assert one.get(log(1).uid).field == "mended"
        with pytest.raises(NotFound):
            one.get(log(2).uid)


def test_a_file_that_was_cut_short_or_damaged_keeps_the_rest(path: Path) -> None:
    """At every byte of the last line."""
    letters = DeadLetters(path, bytes_max=10**8)
    letters.add([letter_of(log(1)), letter_of(log(2))])  # type: ignore[list-item]
    whole = path.read_bytes()
    first_end = whole.index(b"\n") + 1
    for size in range(first_end, len(whole)):
        path.write_bytes(whole[:size])
        again = DeadLetters(path, bytes_max=10**8)
        assert [letter.uid for letter in again.page()] == [log(1).uid]
        again.add([letter_of(log(3))])  # type: ignore[list-item]
        assert len(DeadLetters(path, bytes_max=10**8)) == 2
    path.write_bytes(b"garbage\n" + whole)
    again = DeadLetters(path, bytes_max=10**8)
    assert (len(again), again.unreadable) == (2, 1)


def test_no_room_stops_the_store_and_loses_nothing(path: Path) -> None:
    """The record stays in the write-ahead log then."""
    letters = DeadLetters(path, bytes_max=1_000)
    with pytest.raises(StoreFailed, match="replay or drop"):
        letters.add([letter_of(log(number)) for number in range(99)])  # type: ignore[misc]
    letters.add([letter_of(log(1))])  # type: ignore[list-item]
    letters.remove([log(1).uid])
    assert len(letters) == 0


def test_the_file_does_not_grow_with_what_is_done(path: Path) -> None:
    """It is written anew when most of it is of no use."""
    letters = DeadLetters(path, bytes_max=10**8)
    kept = log(0, message="kept")
    letters.add([letter_of(kept)])  # type: ignore[list-item]
    for number in range(1, 60):
        letters.add([letter_of(log(number, message="x" * 50_000))])  # type: ignore[list-item]
        letters.remove([log(number).uid])
    assert path.stat().st_size < 1_500_000
    assert [letter.uid for letter in DeadLetters(path, bytes_max=10**8).page()] == [kept.uid]


# ---------------------------------------------------------------- with a live server

STRICT = {"type": "long", "ignore_malformed": False}


@pytest.fixture
def store(elasticsearch: Callable[[str], str], tmp_path: Path) -> Iterator[ElasticStore]:
    """A store whose user has given a field a type that some records do not fit."""
    dataset = f"dead{uuid4().hex}"
    store = open_store(
        elasticsearch(VERSION), tmp_path / "store", dataset=dataset, replicas=0, namespace="letters"
    )
    name = store.names.custom_of(store.names.logs)
    mapping = {"properties": {"status": {"properties": {"message": STRICT}}}}
    store._connection.request("PUT", f"/_component_template/{name}", {"template": {"mappings": mapping}})
    yield store
    store.close()


def misfit(number: int) -> Record:
    return log(number, status=Status(code="OK", message="no number"))


def test_a_refused_record_becomes_a_letter_and_its_neighbours_are_stored(store: ElasticStore) -> None:
    """With the server's reason, the field, and the document that was sent."""
    appended = store.append(numbered([log(1), misfit(2), log(3)]))
    assert (appended.stored, appended.already_stored) == (2, 0)
    assert [(record.uid, reason) for record, reason in appended.refused] == [
        (log(2).uid, "document_parsing_exception")
    ]
    assert store.commit() == 3
    assert store.dead_letters is not None
    letter = store.dead_letters.get(log(2).uid)
    assert letter.field == "status.message"
    assert "failed to parse field [status.message] of type [long]" in letter.message
    assert '"status.message":"no number"' in (letter.document or "")
    assert store.health()["dead_letters"] == 1


def test_replayed_unchanged_it_stays_and_mended_it_is_stored_once(store: ElasticStore) -> None:
    """As often as one tries."""
    store.append([misfit(1), misfit(2), misfit(3)])
    assert len(store.replay().refused) == 3

    def mended(record: Record) -> Record | None:
        if record.uid == log(3).uid:
            return None  # not now
        return msgspec.structs.replace(record, status=Status(code="OK", message="7"))

    assert store.replay(edit=mended) == Appended(stored=2, already_stored=0)
    assert store.dead_letters is not None
    assert [letter.uid for letter in store.dead_letters.page()] == [log(3).uid]
    assert store.replay([log(3).uid], edit=lambda record: msgspec.structs.replace(record, status=None)) == (
        Appended(stored=1, already_stored=0)
    )
    assert len(store.dead_letters) == 0
    assert store.count() == 3
    assert store.append([log(1)], check_uids=True) == Appended(stored=0, already_stored=1)


def test_an_attribute_that_does_not_fit_its_field_costs_the_field_only(store: ElasticStore) -> None:
    """The record is stored, and found by the attribute all the same."""
    name = store.names.custom_of(store.names.logs)
    mapping = {
        "properties": {"attributes": {"type": "passthrough", "priority": 20, "properties": {"n": STRICT}}}
    }
    store._connection.request("PUT", f"/_component_template/{name}", {"template": {"mappings": mapping}})
    record = log(1, attributes={"n": "many", "m": 5})
    assert store.append([record, log(2, attributes={"n": 3})]) == Appended(stored=2, already_stored=0)
    assert store.health()["bare"] == 1
    store.commit()
    for condition in (Equals("n", "many"), Equals("m", 5)):
        assert store.search(condition).records == [record]
