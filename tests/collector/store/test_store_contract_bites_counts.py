"""The contract kit notices a store that breaks a promise about counts and lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from collector.store.conditions import Condition, field_values, text_of
from collector.store.contract import (
    EVERYTHING,
    Bucket,
    Edge,
    OperationSummary,
    ServiceSummary,
    StoreStats,
    TraceSummary,
)
from collector.store.memory import MemoryStore
from collector.store.paging import place_of
from collector.store.summaries import summarise_trace, top_buckets
from collector.testing.store_counts import CountsContract

KitRejects = Callable[..., None]


class FacetsInOrderOfValue(MemoryStore):
    def facets(self, field: str, condition: Condition = EVERYTHING, **asked: Any) -> list[Bucket]:
        return sorted(super().facets(field, condition, **asked), key=lambda bucket: bucket.value)


class FacetsCountOccurrences(MemoryStore):
    def facets(self, field: str, condition: Condition = EVERYTHING, **asked: Any) -> list[Bucket]:
        records = self._matching(condition, asked.get("start_ns"), asked.get("end_ns"))
        texts = (text_of(value) for record in records for value in field_values(record, field))
        return top_buckets(Counter(texts), asked.get("limit", 20))


class FacetsOfAttributesOnly(MemoryStore):
    def facets(self, field: str, condition: Condition = EVERYTHING, **asked: Any) -> list[Bucket]:
        return super().facets(f"attributes.{field}", condition, **asked)


class FacetsOfAnything(MemoryStore):
    def facets(self, field: str, condition: Condition = EVERYTHING, **asked: Any) -> list[Bucket]:
        return [] if field == "message" else super().facets(field, condition, **asked)


class SummarisesTheMatches(MemoryStore):
    def find_traces(self, condition: Condition = EVERYTHING, **asked: Any) -> list[TraceSummary]:
        matching = set(self._matching_uids(condition, asked))
        found = []
        for summary in super().find_traces(condition, **asked):
            records = [record for record in self._by_trace[summary.trace_id] if record.uid in matching]
            found.append(summarise_trace(summary.trace_id, records) or summary)
        return found

    def _matching_uids(self, condition: Condition, asked: dict[str, Any]) -> Iterator[str]:
        for record in self._matching(condition, asked.get("start_ns"), asked.get("end_ns")):
            yield record.uid


class NeedsASpan(MemoryStore):
    def find_traces(self, condition: Condition = EVERYTHING, **asked: Any) -> list[TraceSummary]:
        return [summary for summary in super().find_traces(condition, **asked) if summary.spans]


class ListsTracesByTheMatch(MemoryStore):
    def find_traces(self, condition: Condition = EVERYTHING, **asked: Any) -> list[TraceSummary]:
        limit = asked.pop("limit", 20)
        newest = sorted(self._matching(condition, None, None), key=place_of, reverse=True)
        summaries = {one.trace_id: one for one in super().find_traces(condition, limit=1_000, **asked)}
        ids = dict.fromkeys(record.trace_id for record in newest if record.trace_id in summaries)
        return [summaries[trace_id] for trace_id in ids][:limit]


class AsksTheMatchForErrors(MemoryStore):
    def find_traces(self, condition: Condition = EVERYTHING, **asked: Any) -> list[TraceSummary]:
        error = asked.pop("error", None)
        failed = {one.trace_id for one in self._matching(condition, None, None) if one.is_error}
        found = super().find_traces(condition, **asked)
        return [one for one in found if error is None or (one.trace_id in failed) == error]


class CountsErrorsOfSpansOnly(MemoryStore):
    def services(self, *condition: Any, **asked: Any) -> list[ServiceSummary]:
        return [
            msgspec.structs.replace(one, errors=min(one.errors, one.spans))
            if one.spans < 2
            else msgspec.structs.replace(one, errors=0)
            for one in super().services(*condition, **asked)
        ]


class CountsServicesOfAnything(MemoryStore):
    def services(self, *condition: Any, **asked: Any) -> list[ServiceSummary]:
        return super().services(**asked)


class CountsOperationsOfAnything(MemoryStore):
    def operations(self, service: str, *condition: Any, **asked: Any) -> list[OperationSummary]:
        return super().operations(service, **asked)


class RoundsPercentiles(MemoryStore):
    def operations(self, service: str, *condition: Any, **asked: Any) -> list[OperationSummary]:
        found = super().operations(service, *condition, **asked)
        return [
            msgspec.structs.replace(one, duration_p95_ns=one.duration_p95_ns * 104 // 100) for one in found
        ]


class MixesServices(MemoryStore):
    def operations(self, service: str, *_: Any, **asked: Any) -> list[OperationSummary]:
        names = [one.service for one in self.services(**asked)]
        return [one for name in names for one in super(MixesServices, self).operations(name, **asked)]


class PagesTracesByTime(MemoryStore):
    def find_traces(self, condition: Condition = EVERYTHING, **asked: Any) -> list[TraceSummary]:
        before = asked.pop("before", None)
        asked["before"] = None if before is None else (before[0], "")
        return super().find_traces(condition, **asked)


class NeedsTheParentInTheRange(MemoryStore):
    def edges(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[Edge]:
        part = MemoryStore()
        part.append(list(self._matching(EVERYTHING, start_ns, end_ns)))
        part.refresh()
        return part.edges(condition)


class AsksTheCallerToo(MemoryStore):
    def edges(self, condition: Condition = EVERYTHING, **asked: Any) -> list[Edge]:
        part = MemoryStore()
        part.append(list(self._matching(condition, None, None)))
        part.refresh()
        return part.edges(**asked)


class NeedsAFinishedParent(MemoryStore):
    def edges(self, condition: Condition = EVERYTHING, **asked: Any) -> list[Edge]:
        part = MemoryStore()
        part.append([record for record in self._snapshot() if record.kind == "span"])
        part.refresh()
        return part.edges(condition, **asked)


class CountsStartsAsSpans(MemoryStore):
    def stats(self) -> StoreStats:
        found = super().stats()
        return msgspec.structs.replace(found, spans=found.spans + found.span_starts)


BROKEN = (
    ("test_facets_count_values_by_frequency", FacetsInOrderOfValue),
    ("test_facets_of_attributes_count_each_record_once_for_a_value", FacetsCountOccurrences),
    ("test_facets_of_the_record_line_s_own_fields", FacetsOfAttributesOnly),
    ("test_facets_of_words_and_times_are_refused", FacetsOfAnything),
    ("test_a_trace_is_summarised_as_a_whole", SummarisesTheMatches),
    ("test_a_trace_of_logs_only_is_named_by_its_first", NeedsASpan),
    ("test_traces_come_newest_first_by_their_start", ListsTracesByTheMatch),
    ("test_traces_are_asked_for_duration_and_error_as_a_whole", AsksTheMatchForErrors),
    ("test_pages_of_traces_give_each_once", PagesTracesByTime),
    ("test_services_are_counted_exactly", CountsErrorsOfSpansOnly),
    ("test_services_and_operations_of_a_condition", CountsServicesOfAnything),
    ("test_services_and_operations_of_a_condition", CountsOperationsOfAnything),
    ("test_a_percentile_is_within_its_bucket", RoundsPercentiles),
    ("test_operations_of_a_service", MixesServices),
    ("test_calls_between_services", NeedsTheParentInTheRange),
    ("test_calls_of_a_condition", AsksTheCallerToo),
    ("test_a_span_that_only_started_calls_too", NeedsAFinishedParent),
    ("test_stats_count_each_kind", CountsStartsAsSpans),
)


@pytest.mark.parametrize(("promise", "store"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_the_kit_rejects(promise: str, store: type[MemoryStore], kit_rejects: KitRejects) -> None:
    """A store that breaks this promise fails the promise's test."""
    kit_rejects(promise, store)


def test_every_promise_was_seen_to_fail() -> None:
    """A test nobody has seen fail proves nothing."""
    promises = {name for name in dir(CountsContract) if name.startswith("test_")}
    assert {promise for promise, _ in BROKEN} == promises
