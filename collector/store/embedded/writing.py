"""The writing half of the embedded store: one thread, a few open partitions, one commit for all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Final

import tantivy

from collector.errors import StoreFailed
from collector.model import Record
from collector.store.conditions import Condition
from collector.store.contract import Appended
from collector.store.embedded import terms as t
from collector.store.embedded.adding import Adder
from collector.store.embedded.limits import StoreLimits
from collector.store.embedded.partition import Partition
from collector.store.embedded.partitions import DAY_NS, Partitions, day_of
from collector.store.embedded.reading import plan
from collector.store.embedded.snapshot import Figures
from collector.store.embedded.state import write_state
from collector.store.embedded.translate import terms_query

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
        self._adder = Adder(limits.parents_remembered_max)
        self._uncommitted: set[str] = set()  # uids
        self._appending_thread: int | None = None

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
        self._appending_thread = threading.get_ident()
        self._check_for_losses()
        known: set[str] | None = None
        if check_uids:
            known = existing({record.uid for record in records}) | self._uncommitted
        self._adder.remember(records)
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
            reason = self._adder.add(record, partition)
            if reason is None:
                self._uncommitted.add(record.uid)
            else:
                refused.append((record, reason))
        stored = len(records) - already_stored - len(refused)
        return Appended(stored=stored, already_stored=already_stored, refused=refused)

    # ------------------------------------------------------------ commit

    def commit(self) -> int:
        """See `Store.commit`."""
        self._check_for_losses()
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

    def _check_for_losses(self) -> None:
        """Have everything appended again when a partition has gone with what was not committed."""
        if self._partitions.lost_uncommitted:
            self._partitions.lost_uncommitted = False
            self._abandon()
            raise StoreFailed("a damaged partition was set aside with records that were not committed yet")

    def _save_state(self, durable_seq: int, *, durable: bool = False) -> None:
        self._partitions.state.durable_seq = max(self.durable_seq, durable_seq)
        try:
            self._partitions.save_state(durable=durable)
        except OSError as error:
            # The records are durable all the same. A state that is behind only means more to replay.
            _log.warning("%s: %s", self._partitions.directory, error)

    def _abandon(self) -> None:
        if threading.get_ident() != self._appending_thread:
            # The error goes to somebody who only wanted to purge. Whoever appends has to hear of it, too, or
            # what it appends next would stand for what has just been lost.
            self._partitions.lost_uncommitted = True
        for partition in self._partitions.all:
            partition.abandon()
        self._uncommitted.clear()

    # ------------------------------------------------------------ delete

    def delete(self, condition: Condition, *, among: Sequence[Partition] | None = None) -> int:
        """See `Store.delete`.

        Args:
            among: the partitions that are asked; `None`: all.
        """
        try:
            self.commit()
        except StoreFailed:
            self._partitions.lost_uncommitted = True  # the error goes to whoever deletes
            raise
        queries: list[tuple[Partition, tantivy.Query, list[int]]] = []
        for partition in self._partitions.all if among is None else among:
            asked = plan(partition.snapshot, condition)
            if asked.exact:
                query, seqs = asked.query, asked.seqs()
            else:
                found = [(record.uid, record.seq) for record in asked.records()]
                query, seqs = terms_query([t.id_term(t.UID, uid) for uid, _ in found]), [s for _, s in found]
            if seqs:
                queries.append((partition, query, seqs))
        if not queries:
            return 0
        # First written down, so that a crash in between is not taken for records that went missing.
        known = self._partitions.state.partitions
        for partition, _, seqs in queries:
            if partition.name in known:  # a lost or copied state knows no figures
                known[partition.name] = Figures(known[partition.name].documents - len(seqs))
        try:
            write_state(self._partitions.directory, self._partitions.state, durable=True)
            for partition, query, seqs in queries:
                self._partitions.open_for_writing(partition)
                partition.delete(query, seqs)
                partition.commit()
        except (StoreFailed, OSError) as error:
            self._abandon()
            raise StoreFailed(f"not everything could be deleted: {error}") from error
        self._save_state(0)
        return sum(len(seqs) for _, _, seqs in queries)
