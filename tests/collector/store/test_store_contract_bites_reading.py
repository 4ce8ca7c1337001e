"""The contract kit notices a store that breaks a promise about reading."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec
import pytest

from collector.errors import QueryError
from collector.model import Record
from collector.store.conditions import Condition, Equals, matches
from collector.store.contract import EVERYTHING, Page
from collector.store.memory import MemoryStore
from collector.store.paging import read_cursor, write_cursor
from collector.testing.store_reading import ReadingContract

KitRejects = Callable[..., None]


class TraceInOrderOfArrival(MemoryStore):
    def trace(self, trace_id: str, *, records_max: int) -> list[Record]:
        return list(self._by_trace.get(trace_id, ()))[:records_max]


class TraceWithoutStarts(MemoryStore):
    def trace(self, trace_id: str, *, records_max: int) -> list[Record]:
        found = super().trace(trace_id, records_max=records_max)
        return [record for record in found if record.kind in ("log", "span")]


class TraceKeepsTheLatest(MemoryStore):
    def trace(self, trace_id: str, *, records_max: int) -> list[Record]:
        found = super().trace(trace_id, records_max=1_000)
        return found[-records_max:] if records_max else []


class TracesShareTheLimit(MemoryStore):
    def traces(self, trace_ids: Collection[str], *, records_max: int) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {}
        for trace_id in sorted(set(trace_ids)):
            records = self.trace(trace_id, records_max=records_max)
            records_max -= len(records)
            if records:
                found[trace_id] = records
        return found


class TracesAsTheyHash(MemoryStore):
    """Orders many traces by something that nobody asked for."""

    def traces(self, trace_ids: Collection[str], *, records_max: int) -> dict[str, list[Record]]:
        return super().traces(sorted(trace_ids), records_max=records_max)


class TraceByAnyCase(MemoryStore):
    def trace(self, trace_id: str, *, records_max: int) -> list[Record]:
        return super().trace(trace_id.lower(), records_max=records_max)


class SearchOrdersByTimeOnly(MemoryStore):
    def search(self, condition: Condition = EVERYTHING, **asked: Any) -> Page:
        page = super().search(condition, **asked)
        ordered = sorted(page.records, key=lambda record: (-record.timestamp_ns, record.uid))
        return msgspec.structs.replace(page, records=ordered)


class IgnoresTheLimit(MemoryStore):
    def search(self, condition: Condition = EVERYTHING, **asked: Any) -> Page:
        return super().search(condition, **{**asked, "limit": 10_000})


class PagesByTime(MemoryStore):
    """Records of the time at which a page ended are never given."""

    def search(self, condition: Condition = EVERYTHING, **asked: Any) -> Page:
        if asked.get("cursor") is not None:
            asked["cursor"] = write_cursor((read_cursor(asked["cursor"])[0], ""))
        return super().search(condition, **asked)


class PagesByNumber(MemoryStore):
    def search(self, condition: Condition = EVERYTHING, **asked: Any) -> Page:
        cursor, limit = asked.pop("cursor", None), asked.pop("limit", 50)
        skipped = 0 if cursor is None else read_cursor(cursor)[0]
        page = super().search(condition, limit=100_000, **asked)
        records = page.records[skipped : skipped + limit]
        more = len(page.records) > skipped + limit
        return Page(records=records, cursor=write_cursor((skipped + limit, "")) if more else None)


class ForgivesAnyCursor(MemoryStore):
    def search(self, condition: Condition = EVERYTHING, **asked: Any) -> Page:
        try:
            return super().search(condition, **asked)
        except QueryError:
            return super().search(condition, **{**asked, "cursor": None})


class TotalsThePage(MemoryStore):
    def search(self, condition: Condition = EVERYTHING, **asked: Any) -> Page:
        page = super().search(condition, **asked)
        return msgspec.structs.replace(page, total=page.total and len(page.records))


class IncludesTheEnd(MemoryStore):
    def _matching(self, condition: Condition, start_ns: int | None, end_ns: int | None) -> Iterator[Record]:
        return super()._matching(condition, start_ns, None if end_ns is None else end_ns + 1)


class ComparesAsText(MemoryStore):
    """Takes 1 and 1.0 for different numbers."""

    def _matching(self, condition: Condition, start_ns: int | None, end_ns: int | None) -> Iterator[Record]:
        if isinstance(condition, Equals):
            condition = Equals(condition.field, str(condition.value))
        return super()._matching(condition, start_ns, end_ns)


class ClampsTimes(MemoryStore):
    """Keeps times in 64 bits, as an index does, and believes them."""

    def _matching(self, condition: Condition, start_ns: int | None, end_ns: int | None) -> Iterator[Record]:
        start_ns, end_ns = (None if end is None else min(end, 2**63 - 1) for end in (start_ns, end_ns))
        for record in super()._matching(condition, None, None):
            time_ns = min(record.timestamp_ns, 2**63 - 1)
            if (start_ns is None or time_ns >= start_ns) and (end_ns is None or time_ns < end_ns):
                yield record


class CountsStarts(MemoryStore):
    def _matching(self, condition: Condition, start_ns: int | None, end_ns: int | None) -> Iterator[Record]:
        return (record for record in self._snapshot() if matches(condition, record))


class RaisesOnTheUnknown(MemoryStore):
    def trace(self, trace_id: str, *, records_max: int) -> list[Record]:
        if trace_id not in self._by_trace:
            raise KeyError(trace_id)
        return super().trace(trace_id, records_max=records_max)


BROKEN = (
    ("test_a_trace_is_given_in_order_of_time_and_uid", TraceInOrderOfArrival),
    ("test_a_trace_is_given_in_order_of_time_and_uid", TraceWithoutStarts),
    ("test_a_limit_on_a_trace_keeps_the_earliest", TraceKeepsTheLatest),
    ("test_many_traces_at_once_are_as_one_by_one", TracesShareTheLimit),
    ("test_many_traces_come_in_the_order_in_which_they_were_asked_for", TracesAsTheyHash),
    ("test_a_trace_id_is_taken_literally", TraceByAnyCase),
    ("test_a_search_gives_the_newest_first", SearchOrdersByTimeOnly),
    ("test_a_search_gives_the_newest_first", IgnoresTheLimit),
    ("test_pages_give_everything_once", PagesByTime),
    ("test_a_page_is_not_moved_by_what_arrives_meanwhile", PagesByNumber),
    ("test_a_foreign_cursor_is_refused", ForgivesAnyCursor),
    ("test_the_total_counts_all_that_match", TotalsThePage),
    ("test_a_time_range_includes_its_start_and_not_its_end", IncludesTheEnd),
    ("test_conditions_mean_what_the_definition_says", ComparesAsText),
    ("test_a_condition_and_a_time_range_work_together", ClampsTimes),
    ("test_span_starts_and_losses_are_found_only_by_their_kind", CountsStarts),
    ("test_what_is_not_there_is_an_empty_answer", RaisesOnTheUnknown),
)


@pytest.mark.parametrize(("promise", "store"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_the_kit_rejects(promise: str, store: type[MemoryStore], kit_rejects: KitRejects) -> None:
    """A store that breaks this promise fails the promise's test."""
    kit_rejects(promise, store)


def test_every_promise_was_seen_to_fail() -> None:
    """A test nobody has seen fail proves nothing."""
    promises = {name for name in dir(ReadingContract) if name.startswith("test_")}
    assert {promise for promise, _ in BROKEN} == promises
