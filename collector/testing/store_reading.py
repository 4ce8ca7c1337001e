"""The promises about reading records: ordered, limited, paged, matched, absent."""

from __future__ import annotations

import pytest

from collector.errors import QueryError
from collector.model import Record
from collector.store.codec import storable
from collector.store.conditions import And, Condition, Equals, Range, Words, counted, matches
from collector.store.contract import Store
from collector.store.paging import place_of
from collector.testing.store_samples import (
    DAY_NS,
    OTHER_TRACE,
    SECOND_NS,
    START_NS,
    TRACE,
    log,
    loss,
    nasty_records,
    span,
    span_start,
    telling_conditions,
)


def wanted(records: list[Record], condition: Condition) -> list[Record]:
    """What a search must find: the definition, asked of every record."""
    asked = counted(condition)
    found = [record for record in map(storable, records) if matches(asked, record)]
    return sorted(found, key=place_of, reverse=True)


class ReadingContract:
    """See `StoreContract`."""

    # ------------------------------------------------------------ a trace

    def test_a_trace_is_given_in_order_of_time_and_uid(self, store: Store) -> None:
        """Whatever the order of arrival, over several days of it, of every kind."""
        same_time = [log(5, uid=uid, trace_id=TRACE) for uid in ("b", "a", "c")]
        records = [
            span(9, received_ns=START_NS + DAY_NS),
            *same_time,
            span_start(1, received_ns=START_NS + DAY_NS),
            loss(3, trace_id=TRACE),
            log(4, trace_id=OTHER_TRACE),
            log(2),
        ]
        store.append(records)
        store.commit()
        expected = [records[4], records[5], same_time[1], same_time[0], same_time[2], records[0]]
        assert store.trace(TRACE, records_max=99) == [storable(record) for record in expected]

    def test_a_limit_on_a_trace_keeps_the_earliest(self, store: Store) -> None:
        """Also among records of one time, where only the uid decides."""
        records = [log(1, uid=f"{n:03}", trace_id=TRACE) for n in (7, 3, 5, 1, 9)] + [span(0)]
        store.append(records)
        store.commit()
        ordered = sorted(map(storable, records), key=place_of)
        for limit in range(8):
            assert store.trace(TRACE, records_max=limit) == ordered[:limit]

    def test_many_traces_at_once_are_as_one_by_one(self, store: Store) -> None:
        """Those without a record are left out; the limit is for each."""
        store.append([span(1), log(2, trace_id=TRACE), span(3, trace_id=OTHER_TRACE)])
        store.commit()
        asked = [TRACE, OTHER_TRACE, "f" * 32, TRACE]
        assert store.traces(asked, records_max=1) == {
            TRACE: store.trace(TRACE, records_max=1),
            OTHER_TRACE: store.trace(OTHER_TRACE, records_max=1),
        }

    def test_many_traces_come_in_the_order_in_which_they_were_asked_for(self, store: Store) -> None:
        """Whichever that is: what is made of them is then the same each time."""
        ids = [f"{number:032x}" for number in range(1, 9)]
        store.append([log(number, trace_id=trace_id) for number, trace_id in enumerate(ids)])
        store.commit()
        for asked in (ids, ids[::-1], ids[3:] + ids[:3]):
            assert list(store.traces(asked, records_max=9)) == asked

    def test_a_trace_id_is_taken_literally(self, store: Store) -> None:
        """No pattern, no case, no prefix."""
        store.append([span(1)])
        store.commit()
        for other in ("*", TRACE[:-1], TRACE.upper(), TRACE + "0", "", "\ud800"):
            assert store.trace(other, records_max=9) == []

    # ------------------------------------------------------------ a search

    def test_a_search_gives_the_newest_first(self, store: Store) -> None:
        """By time, then uid, over several days of arrival; the limit keeps the newest."""
        records = [
            log(n % 7, uid=f"{n * 37 % 40:03}", received_ns=START_NS + n % 3 * DAY_NS) for n in range(40)
        ]
        store.append(records)
        store.commit()
        ordered = sorted(map(storable, records), key=place_of, reverse=True)
        for limit in (0, 1, 5, 39, 40, 41):
            assert store.search(limit=limit).records == ordered[:limit]

    def test_pages_give_everything_once(self, store: Store) -> None:
        """In the same order as one large page, also within records of one time; the last has no cursor."""
        records = [log(n // 9, uid=f"{n * 7 % 50:03}") for n in range(50)]
        store.append(records)
        store.commit()
        for limit in (1, 4, 10, 49, 50, 51):
            found, cursor = [], None
            while True:
                page = store.search(limit=limit, cursor=cursor)
                found += page.records
                cursor = page.cursor
                if cursor is None:
                    break
            assert found == sorted(map(storable, records), key=place_of, reverse=True)

    def test_a_page_is_not_moved_by_what_arrives_meanwhile(self, store: Store) -> None:
        """A cursor is a place, not a number of records to skip."""
        store.append([log(n) for n in range(6)])
        store.commit()
        first = store.search(limit=3)
        store.append([log(n) for n in range(10, 14)])
        store.commit()
        second = store.search(limit=3, cursor=first.cursor)
        assert [record.uid for record in second.records] == [log(n).uid for n in (2, 1, 0)]
        assert second.cursor is None

    def test_a_foreign_cursor_is_refused(self, store: Store) -> None:
        """With an error that says so, and not with the wrong page."""
        for cursor in ("", "nonsense!", "MTIz", "é"):
            with pytest.raises(QueryError):
                store.search(cursor=cursor)

    def test_the_total_counts_all_that_match(self, store: Store) -> None:
        """Whatever the limit and the cursor; only when it is asked for."""
        store.append([log(n) for n in range(7)] + [span(8)])
        store.commit()
        page = store.search(Words(("placed",)), limit=2, with_total=True)
        assert page.total == 7
        assert store.search(Words(("placed",)), limit=2, cursor=page.cursor, with_total=True).total == 7
        assert store.search(limit=2).total is None

    def test_a_time_range_includes_its_start_and_not_its_end(self, store: Store) -> None:
        """So that ranges side by side give each record once."""
        store.append([log(n) for n in range(6)])
        store.commit()
        start_ns, end_ns = START_NS + SECOND_NS, START_NS + 4 * SECOND_NS
        uids = [log(n).uid for n in (3, 2, 1)]
        page = store.search(start_ns=start_ns, end_ns=end_ns)
        assert [record.uid for record in page.records] == uids
        assert store.count(start_ns=start_ns, end_ns=end_ns) == 3
        assert store.count(start_ns=start_ns) + store.count(end_ns=start_ns) == 6
        assert store.count(start_ns=start_ns, end_ns=start_ns) == 0
        assert store.count(start_ns=end_ns, end_ns=start_ns) == 0

    def test_conditions_mean_what_the_definition_says(self, store: Store) -> None:
        """Every condition finds and counts what `conditions.matches` is true of."""
        records = nasty_records()
        store.append(records)
        store.commit()
        for condition in telling_conditions():
            expected = wanted(records, condition)
            page = store.search(condition, limit=1_000, with_total=True)
            assert page.records == expected, condition
            assert page.total == len(expected), condition
            assert store.count(condition) == len(expected), condition

    def test_a_condition_and_a_time_range_work_together(self, store: Store) -> None:
        """Both have to hold, also for times that do not fit 64 bits."""
        records = nasty_records()
        store.append(records)
        store.commit()
        far = 2**63 + 5
        for start_ns, end_ns in ((START_NS, START_NS + 9 * SECOND_NS), (far, None), (None, far), (0, 1)):
            window = Range("timestamp_ns", start_ns, end_ns, high_included=False)
            for condition in telling_conditions()[::7]:
                expected = wanted(records, And((window, counted(condition))))
                found = store.search(condition, start_ns=start_ns, end_ns=end_ns, limit=1_000).records
                assert found == [record for record in expected if matches(counted(condition), record)]
                assert store.count(condition, start_ns=start_ns, end_ns=end_ns) == len(found)

    def test_span_starts_and_losses_are_found_only_by_their_kind(self, store: Store) -> None:
        """They are kept, and are no records that count."""
        store.append([log(1), span(2), span_start(3), loss(4)])
        store.commit()
        assert [record.kind for record in store.search().records] == ["span", "log"]
        assert store.count(Equals("service", "orders")) == 2
        assert [record.kind for record in store.search(Equals("kind", "loss")).records] == ["loss"]
        assert store.count(Equals("kind", "span_start")) == 1

    def test_what_is_not_there_is_an_empty_answer(self, store: Store) -> None:
        """Of an empty store and of a full one."""
        for _ in range(2):
            assert store.trace("f" * 32, records_max=9) == []
            assert store.traces(["f" * 32], records_max=9) == {}
            assert store.existing({"unknown", "", "\ud800"}) == set()
            page = store.search(Equals("service", "unknown"), with_total=True)
            assert (page.records, page.cursor, page.total) == ([], None, 0)
            assert store.count(Words(("unknown",))) == 0
            assert store.facets("unknown") == []
            assert store.find_traces(Equals("service", "unknown")) == []
            assert store.operations("unknown") == []
            assert store.delete(Equals("service", "unknown")) == 0
            store.append([span(1), log(2)])
            store.commit()
