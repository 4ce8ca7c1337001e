"""The contract kit notices a store that breaks a promise about writing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from collector.model import Record
from collector.store.conditions import Condition, Equals, counted, field_values
from collector.store.contract import Appended
from collector.store.memory import MemoryStore
from collector.testing.store_writing import WritingContract

KitRejects = Callable[..., None]


def reopen_empty(store: Any) -> MemoryStore:
    """A crash takes everything."""
    return MemoryStore()


def reopen_without_durable_seq(store: Any) -> MemoryStore:
    """A crash leaves the committed records, and forgets which numbers they had."""
    opened = MemoryStore()
    opened._visible = list(store._visible)
    return opened


class TellsNothingDurable(MemoryStore):
    def commit(self) -> int:
        super().commit()
        return 0


class IgnoresSeq(MemoryStore):
    def append(self, records: Sequence[Record], *, check_uids: bool = False) -> Appended:
        self._last_seq = 0
        return super().append(records, check_uids=check_uids)


class ComparesSeqInTheBatchOnly(MemoryStore):
    def append(self, records: Sequence[Record], *, check_uids: bool = False) -> Appended:
        if records and 0 < records[0].seq <= self._last_seq:
            return Appended(stored=0, already_stored=len(records))
        return super().append(records, check_uids=check_uids)


class IgnoresUids(MemoryStore):
    def append(self, records: Sequence[Record], *, check_uids: bool = False) -> Appended:
        return super().append(records)


class LooksForVisibleUidsOnly(MemoryStore):
    def append(self, records: Sequence[Record], *, check_uids: bool = False) -> Appended:
        known = self.existing({record.uid for record in records}) if check_uids else set()
        fresh = [record for record in records if record.uid not in known]
        stored = super().append(fresh).stored
        return Appended(stored=stored, already_stored=len(records) - stored)


class TakesZeroForASeq(MemoryStore):
    def append(self, records: Sequence[Record], *, check_uids: bool = False) -> Appended:
        fresh = [record for record in records if record.seq > self._last_seq or not self._last_seq]
        stored = super().append(fresh, check_uids=check_uids).stored
        return Appended(stored=stored, already_stored=len(records) - stored)


class NeverRefreshes(MemoryStore):
    def refresh(self) -> None:
        pass

    def commit(self) -> int:
        super().refresh()
        self._durable_seq = self._last_seq
        return self._durable_seq


class HidesWhatIsCommitted(MemoryStore):
    def commit(self) -> int:
        self._durable_seq = self._last_seq
        return self._durable_seq


class LosesEvents(MemoryStore):
    def append(self, records: Sequence[Record], *, check_uids: bool = False) -> Appended:
        return super().append([msgspec.structs.replace(record, events=()) for record in records])


class SharesAttributes(MemoryStore):
    def append(self, records: Sequence[Record], *, check_uids: bool = False) -> Appended:
        self._appended += records
        return Appended(stored=len(records), already_stored=0)


class RefusesOddities(MemoryStore):
    def append(self, records: Sequence[Record], *, check_uids: bool = False) -> Appended:
        try:
            msgspec.json.encode(records)
        except Exception as error:
            return Appended(stored=0, already_stored=0, refused=[(records[0], str(error))])
        return super().append(records)


class DeletesCountedOnly(MemoryStore):
    def delete(self, condition: Condition) -> int:
        return super().delete(counted(condition))


class DeletesByPrefix(MemoryStore):
    def delete(self, condition: Condition) -> int:
        if not isinstance(condition, Equals):
            return super().delete(condition)
        start = str(condition.value)[:250]
        return self._remove(
            lambda record: any(str(one)[:250] == start for one in field_values(record, condition.field))
        )


class RemembersDeletedUids(MemoryStore):
    def delete(self, condition: Condition) -> int:
        before = Counter(self._uids)
        removed = super().delete(condition)
        self._uids = before
        return removed


class DropsByTheRecordsTime(MemoryStore):
    def drop_before(self, received_ns: int) -> int:
        return self._remove(lambda record: record.timestamp_ns < received_ns)


BROKEN = (
    ("test_commit_tells_the_highest_seq_that_is_durable", TellsNothingDurable),
    ("test_a_seq_that_was_seen_changes_nothing", IgnoresSeq),
    ("test_a_seq_that_was_seen_changes_nothing", ComparesSeqInTheBatchOnly),
    ("test_a_uid_that_is_stored_is_not_stored_again_when_asked", IgnoresUids),
    ("test_a_uid_that_is_stored_is_not_stored_again_when_asked", LooksForVisibleUidsOnly),
    ("test_records_without_a_seq_are_all_new", TakesZeroForASeq),
    ("test_refresh_makes_everything_visible", NeverRefreshes),
    ("test_commit_makes_everything_visible", HidesWhatIsCommitted),
    ("test_a_record_comes_back_as_it_was", LosesEvents),
    ("test_a_record_belongs_to_the_store", SharesAttributes),
    ("test_what_json_cannot_say_is_mended_and_not_refused", RefusesOddities),
    ("test_delete_takes_out_every_kind_at_once", DeletesCountedOnly),
    ("test_delete_by_a_value_takes_out_that_value_only", DeletesByPrefix),
    ("test_a_deleted_uid_may_come_again", RemembersDeletedUids),
    ("test_drop_before_lets_go_of_old_arrivals_only", DropsByTheRecordsTime),
)


@pytest.mark.parametrize(("promise", "store"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_the_kit_rejects(promise: str, store: type[MemoryStore], kit_rejects: KitRejects) -> None:
    """A store that breaks this promise fails the promise's test."""
    kit_rejects(promise, store)


def test_every_promise_was_seen_to_fail() -> None:
    """A test nobody has seen fail proves nothing."""
    promises = {name for name in dir(WritingContract) if name.startswith("test_")}
    assert {promise for promise, _ in BROKEN} | set(BROKEN_BY_A_CRASH) == promises


BROKEN_BY_A_CRASH = {
    "test_what_is_committed_survives_a_crash": reopen_empty,
    "test_replaying_everything_after_a_crash_stores_nothing_twice": reopen_without_durable_seq,
    "test_closing_commits_and_may_be_repeated": reopen_empty,
    "test_what_was_deleted_stays_out": reopen_without_durable_seq,
}


@pytest.mark.parametrize("promise", BROKEN_BY_A_CRASH)
def test_the_kit_rejects_a_store_that_does_not_survive(promise: str, kit_rejects: KitRejects) -> None:
    """A store that forgets its records or their numbers fails the promise's test."""
    kit_rejects(promise, MemoryStore, BROKEN_BY_A_CRASH[promise])
