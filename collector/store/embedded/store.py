"""The embedded store: tantivy indexes, one directory a day, in this process and on this disk."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Final, Self, TypeVar

import msgspec

from collector.errors import CollectorError, Damaged
from collector.model import Record
from collector.store.conditions import And, Condition, Equals, counted, facet_field
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
from collector.store.embedded import calls, counting, finding, purging, rates, shedding
from collector.store.embedded import schema as sc
from collector.store.embedded.aside import add_late, built_anew, waiting
from collector.store.embedded.limits import StoreLimits
from collector.store.embedded.partitions import Partitions, end_of_day_ns, name_parts, partition_key
from collector.store.embedded.reading import newest_first, plans, stored_uids, trace_records
from collector.store.embedded.snapshot import Snapshot, is_panic
from collector.store.embedded.writing import Writer
from collector.store.paging import place_of, read_cursor, write_cursor
from collector.store.summaries import operation_summaries, service_summaries, top_buckets
from collector.store.timeline import rates_of, steps_between

_T = TypeVar("_T")

# What reading damaged bytes ends in: tantivy's errors, a record that does not decode, a number that
# the dictionary does not have.
_SUSPICIOUS: Final = (ValueError, OSError, IndexError, msgspec.DecodeError, Damaged)
_SUSPICION_INTERVAL_S: Final = 30.0


class EmbeddedStore:
    """Keeps every promise of the contract on one machine; measured at millions of records.

    Beyond the contract: a process may read while another one writes (`read_only`), damage is found by
    checksums and set aside (`scrub`), and the oldest data goes when there is too much (`shrink_to`).
    """

    def __init__(self, partitions: Partitions, limits: StoreLimits, clock_ns: Callable[[], int]) -> None:
        """Use `open`."""
        self._partitions = partitions
        self._limits = limits
        self._read_only = partitions.read_only
        self._writer = Writer(partitions, limits, clock_ns)
        self._write_lock = Lock()
        self._rebuild_lock = Lock()
        self._looked_at_s = time.monotonic()
        self._next_suspicion_s = 0.0
        self._closed = False

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        limits: StoreLimits | None = None,
        read_only: bool = False,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> Self:
        """Open a store, making it if need be. Damage never stops the start: see `stats`.

        Args:
            read_only: for reading while another process writes; what that has committed is seen
                within `StoreLimits.reload_interval_s`.
            clock_ns: stands in for records without `received_ns`.
        Raises:
            DataDirectoryInUse: another process writes to it.
            CollectorError: it was written by a newer version.
            OSError: the directory cannot be made or read.
        """
        limits = limits or StoreLimits()
        return cls(Partitions(directory, limits, read_only=read_only), limits, clock_ns)

    # ------------------------------------------------------------ writing

    def append(
        self, records: Sequence[Record], *, check_uids: bool = False, check_since_ns: int = 0
    ) -> Appended:
        """See `Store.append`."""
        self._check_writable()
        with self._write_lock:

            def existing(uids: Collection[str]) -> set[str]:
                return self._read(lambda snapshots: _stored(snapshots, uids, since_ns=check_since_ns))

            return self._writer.append(records, check_uids=check_uids, existing=existing)

    def commit(self) -> int:
        """See `Store.commit`."""
        self._check_writable()
        with self._write_lock:
            return self._writer.commit()

    def refresh(self) -> None:
        """See `Store.refresh`; here only what is durable is visible. A reader looks for news at once."""
        if self._read_only:
            self._partitions.refresh()
        else:
            self.commit()

    def delete(self, condition: Condition) -> int:
        """See `Store.delete`. What waits to be built anew is first, lest it come back undeleted."""
        self.rebuild()
        with self._write_lock:
            return self._writer.delete(condition)

    def drop_before(self, received_ns: int) -> int:
        """See `Store.drop_before`; a partition is a day."""
        self._check_writable()
        with self._write_lock:
            self._writer.commit()
            return self._partitions.drop(lambda one: end_of_day_ns(partition_key(one.path)[0]) <= received_ns)

    def shrink_to(self, bytes_max: int) -> int:
        """Drop the oldest partitions until the rest takes no more than this; how many records went.

        The newest partition stays, whatever its size.
        """
        self._check_writable()
        with self._write_lock:
            self._writer.commit()
            return self._partitions.shrink_to(bytes_max)

    def purge(self) -> int:
        """Take the bytes of deleted records off the disk, partition by partition; how many held any.

        A deleted record is in no answer, but its bytes stay until this, or until its day is dropped.
        Costs what writing the rest of the partition again costs.

        Raises:
            StoreFailed: the disk is full or failed; what was done stays done.
        """
        self._check_writable()
        with self._write_lock:
            return purging.purge(self._partitions, self._writer)

    def purge_beside(self, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """As `purge`, while others write and read: of all partitions but the newest. Any thread.

        Args:
            is_stopping: is asked before each partition whether to give up.
        Raises:
            StoreFailed: the disk is full or failed; what was done stays done.
        """
        self._check_writable()
        with self._rebuild_lock:
            return purging.purge_beside(self._partitions, self._writer, self._write_lock, is_stopping)

    def shed_logs(self, severity_max: int, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Take the logs up to a severity out of the oldest day that has any, and give their space back.

        Any thread; how many went, 0 when there are none, or too few in what is being written.

        Args:
            severity_max: OpenTelemetry's number.
            is_stopping: is asked whether to give up.
        Raises:
            StoreFailed: the disk is full or failed; what was deleted stays deleted.
        """
        self._check_writable()
        with self._rebuild_lock:
            return shedding.shed_logs(
                self._partitions, self._writer, self._write_lock, severity_max, is_stopping
            )

    def drop_oldest_day(self) -> int:
        """Let go of the oldest day, unless it is the only one; how many records went. Any thread."""
        self._check_writable()
        with self._rebuild_lock:
            return shedding.drop_oldest_day(self._partitions, self._writer, self._write_lock)

    def scrub(self, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Read every file and compare its checksum; set damaged partitions aside; how many there were.

        Args:
            is_stopping: is asked before each partition whether to give up.
        """
        return self._partitions.set_damaged_aside(is_stopping)

    def rebuild(self, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Build anew what was set aside and is kept once more; how many records are back.

        Takes as long as writing them took. Any thread may do it: others write and read meanwhile.

        Args:
            is_stopping: is asked now and then whether to give up; the next call begins again.
        Raises:
            StoreFailed, OSError: the disk is full or failed.
        """
        self._check_writable()
        back = 0
        if not waiting(self._partitions.directory):
            return back  # most often, and then not after whatever else has the lock
        with self._rebuild_lock:
            for damaged in waiting(self._partitions.directory):
                target = self._partitions.unfinished(damaged.name)
                built = built_anew(damaged, target, self._limits, is_stopping=is_stopping)
                if built is None:
                    break
                with self._write_lock:
                    replayed_to = self._writer.commit()
                    add_late(damaged, built, self._limits, replayed_to=replayed_to, existing=self.existing)
                    back += self._partitions.adopt(built.partition, damaged)
        return back

    def backup(self, target: Path) -> int:
        """Copy everything that is committed into an empty directory; how many bytes it has there.

        A writer commits first. A reader may do it while another process writes. The copy is a store.

        Raises:
            StoreFailed: the target is not empty, or files changed too often meanwhile.
            OSError: the disk is full or failed.
        """
        if not self._read_only:
            self.commit()
        return self._partitions.copy_to(target)

    def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        try:
            if not self._read_only:
                self.commit()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of every file without a commit, as a crash would; for tests and hopeless disks."""
        self._closed = True
        self._partitions.close()

    def _check_writable(self) -> None:
        self._check_open()
        if self._read_only:
            raise CollectorError(f"{self._partitions.directory}: opened for reading only")

    def _check_open(self) -> None:
        if self._closed:
            raise CollectorError(f"{self._partitions.directory}: this store is closed")

    # ------------------------------------------------------------ reading

    def existing(self, uids: Collection[str]) -> set[str]:
        """See `Store.existing`."""
        return self._read(lambda snapshots: _stored(snapshots, uids, since_ns=0))

    def trace(self, trace_id: str, *, records_max: int) -> list[Record]:
        """See `Store.trace`."""
        return self._read(lambda snapshots: trace_records(snapshots, trace_id, records_max))

    def traces(self, trace_ids: Collection[str], *, records_max: int) -> dict[str, list[Record]]:
        """See `Store.traces`."""

        def read(snapshots: Sequence[Snapshot]) -> dict[str, list[Record]]:
            found = ((one, trace_records(snapshots, one, records_max)) for one in dict.fromkeys(trace_ids))
            return {trace_id: records for trace_id, records in found if records}

        return self._read(read)

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
        beyond = None if cursor is None else read_cursor(cursor)

        def read(snapshots: Sequence[Snapshot]) -> Page:
            asked = plans(snapshots, counted(condition), start_ns, end_ns)
            found = list(islice(newest_first(asked, beyond, limit + 1), limit + 1))
            page = found[:limit]
            more = len(found) > limit and bool(page)
            return Page(
                records=page,
                cursor=write_cursor(place_of(page[-1])) if more else None,
                total=sum(one.count() for one in asked) if with_total else None,
            )

        return self._read(read)

    def count(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> int:
        """See `Store.count`."""
        return self._read(
            lambda snapshots: sum(
                one.count() for one in plans(snapshots, counted(condition), start_ns, end_ns)
            )
        )

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
        counts = self._read(
            lambda snapshots: counting.facet_counts(
                field, plans(snapshots, counted(condition), start_ns, end_ns)
            )
        )
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
        return self._read(
            lambda snapshots: finding.find_traces(
                snapshots,
                plans(snapshots, counted(condition), start_ns, end_ns),
                min_duration_ns=min_duration_ns,
                error=error,
                before=before,
                limit=limit,
            )
        )

    def services(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[ServiceSummary]:
        """See `Store.services`."""
        return self._read(
            lambda snapshots: service_summaries(
                counting.tallies(plans(snapshots, counted(condition), start_ns, end_ns), by_operation=False)
            )
        )

    def operations(
        self,
        service: str,
        condition: Condition = EVERYTHING,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
    ) -> list[OperationSummary]:
        """See `Store.operations`."""
        wanted = counted(And((Equals("service", service), condition)))
        return self._read(
            lambda snapshots: operation_summaries(
                service, counting.tallies(plans(snapshots, wanted, start_ns, end_ns), by_operation=True)
            )
        )

    def edges(
        self, condition: Condition = EVERYTHING, *, start_ns: int | None = None, end_ns: int | None = None
    ) -> list[Edge]:
        """See `Store.edges`."""
        return self._read(lambda snapshots: calls.edges(snapshots, condition, start_ns, end_ns))

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
        tallies = self._read(
            lambda snapshots: rates.tallies(plans(snapshots, counted(condition), start_ns, end_ns), steps)
        )
        return rates_of(steps, tallies)

    def stats(self) -> StoreStats:
        """See `Store.stats`."""
        return self._read(self._stats)

    def _stats(self, snapshots: Sequence[Snapshot]) -> StoreStats:
        kinds: Counter[str] = sum((one.kinds for one in snapshots), Counter())
        bounds = [one.bounds for one in snapshots if one.bounds is not None]
        newest_ns = max((high for _, high in bounds), default=None)
        if newest_ns == sc.I64_MAX:  # the column ends there, time does not
            newest = next(newest_first(plans(snapshots, EVERYTHING, None, None), None, 1), None)
            newest_ns = None if newest is None else newest.timestamp_ns
        state = self._partitions.state
        return StoreStats(
            records=kinds["log"] + kinds["span"],
            logs=kinds["log"],
            spans=kinds["span"],
            span_starts=kinds["span_start"],
            losses=kinds["loss"],
            partitions=len(snapshots),
            bytes=sum(one.bytes() for one in self._partitions.all),
            oldest_ns=min((low for low, _ in bounds), default=None),
            newest_ns=newest_ns,
            durable_seq=state.durable_seq,
            damaged_partitions=state.damaged_partitions + self._partitions.unreadable,
            damaged_records=state.damaged_records,
            rebuilt_partitions=state.rebuilt_partitions,
            rebuilt_records=state.rebuilt_records,
        )

    def _read(self, read: Callable[[Sequence[Snapshot]], _T]) -> _T:
        """Answer from all partitions. What fails on damaged files is answered without them.

        Raises:
            Exception: what `read` raised, when every file is as it was written.
        """
        self._check_open()
        if self._read_only and time.monotonic() - self._looked_at_s > self._limits.reload_interval_s:
            self._partitions.refresh()
            self._looked_at_s = time.monotonic()
        try:
            return read(self._snapshots())
        except BaseException as error:
            if not self._may_be_damage(error) or not self._partitions.set_damaged_aside():
                raise
        return read(self._snapshots())

    def _may_be_damage(self, error: BaseException) -> bool:
        """Whether it pays to read every file because of an error; not again and again."""
        if not is_panic(error) and not isinstance(error, _SUSPICIOUS):
            return False
        now_s = time.monotonic()
        if now_s < self._next_suspicion_s:
            return False
        self._next_suspicion_s = now_s + _SUSPICION_INTERVAL_S
        return True

    def _snapshots(self) -> list[Snapshot]:
        return [partition.snapshot for partition in self._partitions.all]


def _stored(snapshots: Sequence[Snapshot], uids: Collection[str], *, since_ns: int) -> set[str]:
    """Which of these uids are in partitions of days that were not over at a time."""
    days = [one for one in snapshots if end_of_day_ns(name_parts(one.name)[0]) > since_ns]
    return set().union(*(stored_uids(one, uids) for one in days))
