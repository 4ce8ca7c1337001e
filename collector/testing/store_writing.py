"""The promises about writing: durable, repeatable, visible, faithful, removed."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from collector.model import Record
from collector.store.codec import storable
from collector.store.conditions import Equals, Exists
from collector.store.contract import Appended, Store
from collector.store.paging import place_of
from collector.testing.store_samples import (
    DAY_NS,
    OTHER_TRACE,
    START_NS,
    TRACE,
    log,
    loss,
    nasty_records,
    numbered,
    span,
    span_start,
)

Reopen = Callable[[Store], Store]


def everything(store: Store) -> list[Record]:
    """All records that are found, newest first."""
    return store.search(limit=10_000).records


def newest_first(records: list[Record]) -> list[Record]:
    """The records as a search gives them."""
    return sorted(map(storable, records), key=place_of, reverse=True)


class WritingContract:
    """See `StoreContract`."""

    # ------------------------------------------------------------ durable

    def test_commit_tells_the_highest_seq_that_is_durable(self, store: Store) -> None:
        """The write-ahead log lets go of everything up to that number."""
        assert store.commit() == 0
        store.append(numbered([log(1), log(2)]))
        assert store.stats().durable_seq == 0
        assert store.commit() == 2
        assert store.stats().durable_seq == 2
        assert store.commit() == 2

    def test_what_is_committed_survives_a_crash(self, store: Store, reopen: Reopen) -> None:
        """Records and `durable_seq` are there when the store is opened again."""
        store.append(numbered([log(1), span(2)]))
        store.commit()
        store.append(numbered([log(3)], first=3))
        store = reopen(store)
        assert store.stats().durable_seq == 2
        found = everything(store)
        assert [record for record in found if record.seq <= 2] == newest_first(numbered([log(1), span(2)]))

    def test_replaying_everything_after_a_crash_stores_nothing_twice(
        self, store: Store, reopen: Reopen
    ) -> None:
        """The write-ahead log sends again what it has, more than was lost."""
        records = numbered([log(1), log(2, received_ns=START_NS + DAY_NS), log(3), log(4)])
        store.append(records[:2])
        store.commit()
        store.append(records[2:])
        store = reopen(store)
        store.append(records)
        store.commit()
        assert everything(store) == newest_first(records)

    def test_closing_commits_and_may_be_repeated(self, store: Store, reopen: Reopen) -> None:
        """What was appended before `close` is there afterwards."""
        store.append(numbered([log(1)]))
        store.close()
        store.close()
        assert everything(reopen(store)) == newest_first(numbered([log(1)]))

    # ------------------------------------------------------------ repeatable

    def test_a_seq_that_was_seen_changes_nothing(self, store: Store) -> None:
        """Committed or not, and also when only a part of the batch was seen."""
        records = numbered([log(1), log(2), log(3)])
        assert store.append(records[:2]) == Appended(stored=2, already_stored=0)
        assert store.append(records[:2]) == Appended(stored=0, already_stored=2)
        store.commit()
        assert store.append(records) == Appended(stored=1, already_stored=2)
        store.commit()
        assert everything(store) == newest_first(records)

    def test_a_uid_that_is_stored_is_not_stored_again_when_asked(self, store: Store) -> None:
        """Visible, only appended, and twice in one batch."""
        store.append([log(1)])
        store.commit()
        store.append([log(2)])
        batch = [log(1), log(2), log(3), log(3)]
        assert store.append(batch, check_uids=True) == Appended(stored=1, already_stored=3)
        store.commit()
        assert everything(store) == newest_first([log(1), log(2), log(3)])

    def test_records_without_a_seq_are_all_new(self, store: Store) -> None:
        """0 is no number: it neither holds back later records nor is held back by earlier ones."""
        store.append(numbered([log(1)], first=10))
        assert store.append([log(2), log(3)]) == Appended(stored=2, already_stored=0)
        store.append(numbered([log(4)], first=11))
        store.commit()
        found = [*numbered([log(1)], first=10), log(2), log(3), *numbered([log(4)], first=11)]
        assert everything(store) == newest_first(found)

    # ------------------------------------------------------------ visible

    def test_refresh_makes_everything_visible(self, store: Store) -> None:
        """In every answer, not only in some."""
        records = [span(1), log(2, trace_id=TRACE)]
        store.append(records)
        store.refresh()
        assert everything(store) == newest_first(records)
        assert store.count() == 2
        assert store.trace(TRACE, records_max=9) == [storable(record) for record in records]
        assert store.existing({records[0].uid, "unknown"}) == {records[0].uid}

    def test_commit_makes_everything_visible(self, store: Store) -> None:
        """`commit` includes what `refresh` does."""
        store.append([log(1)])
        store.commit()
        assert everything(store) == newest_first([log(1)])

    # ------------------------------------------------------------ faithful

    def test_a_record_comes_back_as_it_was(self, store: Store) -> None:
        """Every field, every nasty value, whatever the index made of it."""
        records = nasty_records()
        store.append(records)
        store.commit()
        assert store.search(Exists("kind"), limit=1_000).records == newest_first(records)

    def test_a_record_belongs_to_the_store(self, store: Store) -> None:
        """What the caller does to an attribute afterwards does not reach the store."""
        attributes: dict[str, object] = {"items": [1]}
        record = log(1, attributes=attributes)
        before = storable(record)
        store.append([record])
        attributes["items"] = "changed"
        store.commit()
        assert everything(store) == [before]

    def test_what_json_cannot_say_is_mended_and_not_refused(self, store: Store) -> None:
        """NaN, lone surrogates, unknown types, depth: kept as the codec writes them."""
        deep: list[object] = []
        for _ in range(2_000):
            deep = [deep]
        values = {"nan": float("nan"), "half": "\ud800", "type": object, "tuple": (1, 2), "deep": deep}
        record = log(1, message="half \udfff a pair", attributes=values, service="half \ud800")
        assert store.append([record]) == Appended(stored=1, already_stored=0)
        store.commit()
        assert everything(store) == [storable(record)]
        assert everything(store)[0].attributes["nan"] is None
        assert store.count(Equals("tuple", 2)) == 1

    # ------------------------------------------------------------ removed

    def test_delete_takes_out_every_kind_at_once(self, store: Store) -> None:
        """A trace that must be forgotten leaves nothing behind, committed or not."""
        kept = [log(1), span(2, trace_id=OTHER_TRACE), span_start(3, trace_id=OTHER_TRACE)]
        gone = [span(4), log(5, trace_id=TRACE), span_start(6), loss(7, trace_id=TRACE)]
        store.append(kept + gone[:2])
        store.commit()
        store.append(gone[2:])
        assert store.delete(Equals("trace_id", TRACE)) == 4
        assert store.trace(TRACE, records_max=9) == []
        assert store.search(Exists("kind"), limit=99).records == newest_first(kept)
        assert store.existing({record.uid for record in kept + gone}) == {record.uid for record in kept}
        assert store.stats().records == 2
        assert store.delete(Equals("trace_id", TRACE)) == 0

    def test_delete_by_a_value_takes_out_that_value_only(self, store: Store) -> None:
        """Also a value that an index may hold only in part."""
        long = "x" * 5_000
        records = [
            log(1, attributes={"user": long + "1"}),
            log(2, attributes={"user": long + "2"}),
            log(3, attributes={"user": ["7", long + "1"]}),
            log(4, message="one two"),
            log(5, message="one, two!"),
        ]
        store.append(records)
        store.commit()
        assert store.delete(Equals("user", long + "1")) == 2
        assert store.delete(Equals("message", "one two")) == 1
        assert everything(store) == newest_first([records[1], records[4]])

    def test_what_was_deleted_stays_out(self, store: Store, reopen: Reopen) -> None:
        """Neither a restart nor a replay brings it back."""
        records = numbered([log(1), log(2)])
        store.append(records)
        store.commit()
        store.delete(Equals("uid", records[0].uid))
        store = reopen(store)
        store.append(records)
        store.commit()
        assert everything(store) == newest_first(records[1:])

    def test_a_deleted_uid_may_come_again(self, store: Store) -> None:
        """Somebody who imports a file again after a deletion wants it."""
        store.append([log(1)])
        store.delete(Equals("uid", log(1).uid))
        assert store.append([log(1)], check_uids=True) == Appended(stored=1, already_stored=0)
        store.commit()
        assert everything(store) == newest_first([log(1)])

    def test_drop_before_lets_go_of_old_arrivals_only(self, store: Store) -> None:
        """Arrival counts, not the time that the record carries; a whole day goes."""
        old = [log(1, timestamp_ns=START_NS + 9 * DAY_NS), log(2)]
        new = [msgspec.structs.replace(log(n), received_ns=START_NS + 2 * DAY_NS) for n in (3, 4)]
        store.append(numbered(old + new))
        store.commit()
        assert store.drop_before(START_NS) == 0
        assert store.drop_before(START_NS + 2 * DAY_NS) == 2
        assert everything(store) == newest_first(numbered(new, first=3))
        assert store.stats().records == 2
