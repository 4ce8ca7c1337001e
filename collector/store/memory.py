"""A store in memory: for tests, for tiny runs, and as the measure that other stores are held to.

It asks `conditions.matches` of every record, so it is right by construction and slow by design.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from heapq import nlargest
from threading import RLock

from collector.model import Record
from collector.store.codec import storable
from collector.store.conditions import (
    And,
    Condition,
    Equals,
    counted,
    facet_field,
    field_values,
    matches,
    text_of,
)
from collector.store.contract import (
    EVERYTHING,
    MINUTE_NS,
    Appended,
    Bucket,
    Edge,
    OperationSummary,
    Page,
    Place,
    Rate,
    ServiceSummary,
    StoreStats,
    TraceSummary,
)
from collector.store.paging import place_of, place_of_trace, read_cursor, write_cursor
from collector.store.summaries import (
    caller_of,
    edges_from,
    operation_summaries,
    service_summaries,
    summarise_trace,
    tally_records,
    top_buckets,
)
from collector.store.timeline import rates_of, steps_between, tally_by_step


class MemoryStore:
    """Keeps records in a list. It cannot keep the promise of durability, and says 0 bytes."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._visible: list[Record] = []
        self._appended: list[Record] = []  # since the last refresh
        self._by_trace: dict[str, list[Record]] = defaultdict(list)
        self._uids: Counter[str] = Counter()  # of both lists
        self._last_seq = 0
        self._durable_seq = 0

    def append(
        self, records: Sequence[Record], *, check_uids: bool = False, check_since_ns: int = 0
    ) -> Appended:
        """See `Store.append`; looks at everything, which costs the same here."""
        stored = 0
        with self._lock:
            for record in map(storable, records):
                if record.seq and record.seq <= self._last_seq:
                    continue
                if check_uids and record.uid in self._uids:
                    continue
                self._last_seq = max(self._last_seq, record.seq)
                self._uids[record.uid] += 1
                self._appended.append(record)
                stored += 1
        return Appended(stored=stored, already_stored=len(records) - stored)

    def commit(self) -> int:
        """See `Store.commit`."""
        with self._lock:
            self.refresh()
            self._durable_seq = self._last_seq
            return self._durable_seq

    def refresh(self) -> None:
        """See `Store.refresh`."""
        with self._lock:
            for record in self._appended:
                self._visible.append(record)
                if record.trace_id is not None:
                    self._by_trace[record.trace_id].append(record)
            self._appended = []

    def existing(self, uids: Collection[str]) -> set[str]:
        """See `Store.existing`."""
        wanted = set(uids)
        return {record.uid for record in self._snapshot() if record.uid in wanted}

    def trace(self, trace_id: str, *, records_max: int) -> list[Record]:
        """See `Store.trace`."""
        with self._lock:
            records = list(self._by_trace.get(trace_id, ()))
        return sorted(records, key=place_of)[:records_max]

    def traces(self, trace_ids: Collection[str], *, records_max: int) -> dict[str, list[Record]]:
        """See `Store.traces`."""
        found = {trace_id: self.trace(trace_id, records_max=records_max) for trace_id in trace_ids}
        return {trace_id: records for trace_id, records in found.items() if records}

    def search(
        self,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        limit: int = 50,
        cursor: str | None = None,
        with_total: bool = False,
    ) -> Page:
        """See `Store.search`."""
        found = list(self._matching(condition, start_ns, end_ns))
        total = len(found) if with_total else None
        if cursor is not None:
            place = read_cursor(cursor)
            found = [record for record in found if place_of(record) < place]
        newest = nlargest(limit + 1, found, key=place_of)
        page = newest[:limit]
        more = len(newest) > limit and bool(page)
        return Page(records=page, cursor=write_cursor(place_of(page[-1])) if more else None, total=total)

    def count(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> int:
        """See `Store.count`."""
        return sum(1 for _ in self._matching(condition, start_ns, end_ns))

    def facets(
        self,
        field: str,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        limit: int = 20,
    ) -> list[Bucket]:
        """See `Store.facets`."""
        facet_field(field)
        counts: Counter[str] = Counter()
        for record in self._matching(condition, start_ns, end_ns):
            counts.update({text_of(value) for value in field_values(record, field)})
        return top_buckets(counts, limit)

    def find_traces(
        self,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        min_duration_ns: int | None = None,
        error: bool | None = None,
        before: Place | None = None,
        limit: int = 20,
    ) -> list[TraceSummary]:
        """See `Store.find_traces`."""
        trace_ids = {record.trace_id for record in self._matching(condition, start_ns, end_ns)}
        summaries = []
        for trace_id in trace_ids:
            if trace_id is None:
                continue
            summary = summarise_trace(trace_id, self._by_trace[trace_id])
            if summary is None or (error is not None and summary.error != error):
                continue
            if before is not None and place_of_trace(summary) >= before:
                continue
            if min_duration_ns is None or summary.duration_ns >= min_duration_ns:
                summaries.append(summary)
        return nlargest(limit, summaries, key=place_of_trace)

    def services(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[ServiceSummary]:
        """See `Store.services`."""
        return service_summaries(tally_records(self._matching(condition, start_ns, end_ns)))

    def operations(
        self,
        service: str,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[OperationSummary]:
        """See `Store.operations`."""
        records = self._matching(And((Equals("service", service), condition)), start_ns, end_ns)
        return operation_summaries(service, tally_records(records))

    def edges(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[Edge]:
        """See `Store.edges`."""
        owners: dict[tuple[str | None, str | None], set[str]] = defaultdict(set)
        for record in self._snapshot():
            if record.kind in ("span", "span_start"):
                owners[record.trace_id, record.span_id].add(record.service)
        calls: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
        for record in self._matching(And((Equals("kind", "span"), condition)), start_ns, end_ns):
            if record.parent_span_id is None:
                continue
            caller = caller_of(record.service, owners.get((record.trace_id, record.parent_span_id), ()))
            if caller is not None:
                total, errors = calls[caller, record.service]
                calls[caller, record.service] = total + 1, errors + record.is_error
        return edges_from(calls)

    def rates(
        self,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int,
        end_ns: int,
        step_ns: int = MINUTE_NS,
    ) -> list[Rate]:
        """See `Timeline.rates`."""
        steps = steps_between(start_ns, end_ns, step_ns)
        return rates_of(steps, tally_by_step(self._matching(condition, start_ns, end_ns), step_ns))

    def stats(self) -> StoreStats:
        """See `Store.stats`."""
        records = self._snapshot()
        kinds = Counter(record.kind for record in records)
        times = [record.timestamp_ns for record in records]
        return StoreStats(
            records=kinds["log"] + kinds["span"],
            logs=kinds["log"],
            spans=kinds["span"],
            span_starts=kinds["span_start"],
            losses=kinds["loss"],
            partitions=1,
            bytes=0,
            oldest_ns=min(times, default=None),
            newest_ns=max(times, default=None),
            durable_seq=self._durable_seq,
        )

    def delete(self, condition: Condition) -> int:
        """See `Store.delete`."""
        return self._remove(lambda record: matches(condition, record))

    def drop_before(self, received_ns: int) -> int:
        """See `Store.drop_before`; here every record that says when it arrived is its own partition."""
        return self._remove(lambda record: 0 < record.received_ns < received_ns)

    def close(self) -> None:
        """See `Store.close`."""
        self.commit()

    def _snapshot(self) -> list[Record]:
        with self._lock:
            return list(self._visible)

    def _matching(self, condition: Condition, start_ns: int | None, end_ns: int | None) -> Iterator[Record]:
        wanted = counted(condition)
        for record in self._snapshot():
            if start_ns is not None and record.timestamp_ns < start_ns:
                continue
            if end_ns is not None and record.timestamp_ns >= end_ns:
                continue
            if matches(wanted, record):
                yield record

    def _remove(self, leaves: Callable[[Record], bool]) -> int:
        with self._lock:
            self.refresh()
            kept = [record for record in self._visible if not leaves(record)]
            removed = len(self._visible) - len(kept)
            self._visible, self._appended = [], kept
            self._by_trace.clear()
            self._uids = Counter(record.uid for record in kept)
            self.refresh()
            return removed
