"""The writing half of the embedded store: one thread, a few open partitions, one commit for all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final

import tantivy

from collector.errors import StoreFailed
from collector.model import Record
from collector.store.codec import pack
from collector.store.conditions import Condition
from collector.store.contract import Appended
from collector.store.embedded import schema as sc
from collector.store.embedded import terms as t
from collector.store.embedded.limits import StoreLimits
from collector.store.embedded.parents import Parents
from collector.store.embedded.partition import Partition
from collector.store.embedded.partitions import DAY_NS, Partitions, day_of
from collector.store.embedded.profiles import profile_of
from collector.store.embedded.reading import plan
from collector.store.embedded.snapshot import Figures
from collector.store.embedded.state import write_state
from collector.store.embedded.translate import terms_query

UNSTORABLE: Final = "unstorable"  # the one reason for a refusal; the log says more

_log: Final = logging.getLogger(__name__)


class Writer:
    """Appends, commits and deletes.

    The highest `seq` of a day's partitions stands for every lower one of that day: records come with
    rising numbers, and a partition that is full is committed before the next one of its day begins.
    """

    def __init__(self, partitions: Partitions, limits: StoreLimits, clock_ns: Callable[[], int]) -> None:
        """Write into these partitions; `clock_ns` stands in for records that do not say when they came."""
        self._partitions = partitions
        self._clock_ns = clock_ns
        self._parents = Parents(limits.parents_remembered_max)
        self._uncommitted: set[str] = set()  # uids

    @property
    def durable_seq(self) -> int:
        """Everything up to here is durable."""
        return self._partitions.state.durable_seq

    # ------------------------------------------------------------ append

    def append(
        self,
        records: Sequence[Record],
        *,
        check_uids: bool,
        existing: Callable[[Collection[str]], set[str]],
    ) -> Appended:
        """See `Store.append`; `existing` says which uids are stored and visible."""
        known: set[str] | None = None
        if check_uids:
            known = existing({record.uid for record in records}) | self._uncommitted
        for record in records:
            self._remember_as_parent(record)
        try:
            return self._append(records, known)
        except StoreFailed:
            self._abandon()
            raise

    def _append(self, records: Sequence[Record], known: set[str] | None) -> Appended:
        partitions, durable_seq = self._partitions, self.durable_seq
        refused: list[tuple[Record, str]] = []
        already_stored = 0
        partition: Partition | None = None
        day, day_seq, room = -1, 0, 0
        for record in records:
            seq = record.seq
            if seq and seq <= durable_seq:
                already_stored += 1
                continue
            received_ns = record.received_ns or self._clock_ns()
            if partition is None or room <= 0 or received_ns // DAY_NS != day:
                partition = partitions.for_arrival(received_ns)
                day, room = received_ns // DAY_NS, partitions.room(partition)
                day_seq = max(one.appended_seq for one in partitions.of_day(day_of(received_ns)))
            if seq and seq <= max(day_seq, partition.appended_seq):
                already_stored += 1
                continue
            if known is not None:
                if record.uid in known:
                    already_stored += 1
                    continue
                known.add(record.uid)
            room -= 1
            reason = self._add(record, partition)
            if reason is None:
                self._uncommitted.add(record.uid)
            else:
                refused.append((record, reason))
        stored = len(records) - already_stored - len(refused)
        return Appended(stored=stored, already_stored=already_stored, refused=refused)

    def _add(self, record: Record, partition: Partition) -> str | None:
        """Write one record; the reason why it can never be written, if that is so."""
        body, record = pack(record)
        caller, unknown = self._caller_of(record)
        dictionary = partition.dictionary
        fields = sc.fields_of_record(
            record,
            body,
            profile=dictionary.profile_id(profile_of(record, caller)),
            resource=dictionary.resource_id(record.resource),
            parent_unknown=unknown,
        )
        try:
            document = tantivy.Document.from_dict(fields, sc.SCHEMA)
        except (ValueError, TypeError, OverflowError) as error:
            _log.warning("record %s does not fit the index: %s", record.uid, error)
            return UNSTORABLE
        partition.add(document, order=fields[sc.ORDER], record=record)
        return None

    def _remember_as_parent(self, record: Record) -> None:
        if record.kind in ("span", "span_start") and record.trace_id and record.span_id:
            self._parents.remember(sc.span_hash(record.trace_id, record.span_id), record.service)

    def _caller_of(self, record: Record) -> tuple[str | None, bool]:
        """The service that called a span, if it is known and another one; and whether it is not known."""
        if record.kind != "span" or record.trace_id is None or record.parent_span_id is None:
            return None, False
        service = self._parents.service_of(sc.span_hash(record.trace_id, record.parent_span_id))
        if service is None:
            return None, True
        return (None if service == record.service else service), False

    # ------------------------------------------------------------ commit

    def commit(self) -> int:
        """See `Store.commit`."""
        dirty = [partition for partition in self._partitions.all if partition.dirty]
        if not dirty:
            return self.durable_seq
        try:
            for partition in dirty:
                partition.commit()
        except StoreFailed:
            self._abandon()
            raise
        self._uncommitted.clear()
        self._save_state(max(one.committed_seq for one in self._partitions.all))
        return self.durable_seq

    def _save_state(self, durable_seq: int, *, durable: bool = False) -> None:
        self._partitions.state.durable_seq = max(self.durable_seq, durable_seq)
        try:
            self._partitions.save_state(durable=durable)
        except OSError as error:
            # The records are durable all the same. A state that is behind only means more to replay.
            _log.warning("%s: %s", self._partitions.directory, error)

    def _abandon(self) -> None:
        for partition in self._partitions.all:
            partition.abandon()
        self._uncommitted.clear()

    # ------------------------------------------------------------ delete

    def delete(self, condition: Condition) -> int:
        """See `Store.delete`."""
        self.commit()
        queries: list[tuple[Partition, tantivy.Query, int]] = []
        for partition in self._partitions.all:
            asked = plan(partition.snapshot, condition)
            if asked.exact:
                query, count = asked.query, asked.count()
            else:
                uids = [record.uid for record in asked.records()]
                query, count = terms_query([t.id_term(t.UID, uid) for uid in uids]), len(uids)
            if count:
                queries.append((partition, query, count))
        if not queries:
            return 0
        # First written down, so that a crash in between is not taken for records that went missing.
        known = self._partitions.state.partitions
        for partition, _, count in queries:
            if partition.name in known:  # a lost or copied state knows no figures
                known[partition.name] = Figures(known[partition.name].documents - count)
        try:
            write_state(self._partitions.directory, self._partitions.state, durable=True)
            for partition, query, _ in queries:
                self._partitions.open_for_writing(partition)
                partition.delete(query)
                partition.commit()
        except (StoreFailed, OSError) as error:
            self._abandon()
            raise StoreFailed(f"not everything could be deleted: {error}") from error
        self._save_state(0)
        return sum(count for _, _, count in queries)
