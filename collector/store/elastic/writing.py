"""Takes batches in: encodes, sends, gives every record its verdict, and buries what is refused."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Final

import msgspec

from collector.errors import StoreFailed
from collector.model import Record
from collector.store.contract import Appended
from collector.store.deadletters import DeadLetters, make_letter
from collector.store.elastic.bulk import STORED, Fate, Item, Verdict, chunks
from collector.store.elastic.documents import document_id, unstorable
from collector.store.elastic.encoding import DocumentEncoder
from collector.store.elastic.guard import MappingGuard
from collector.store.elastic.names import Names
from collector.store.elastic.options import ElasticOptions
from collector.store.elastic.sender import BulkSender, Delivery
from collector.store.elastic.state import StateFile

logger = logging.getLogger(__name__)

# What a server says when an attribute does not fit the field it has given it.
_MISFITS: Final = frozenset(
    {"document_parsing_exception", "mapper_parsing_exception", "illegal_argument_exception"}
)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What was begun to be appended."""

    highest: int  # of the records' numbers; 0: none has one
    repeated: int  # records that had been begun before
    delivery: Delivery
    refused: list[tuple[Item, Verdict]]  # before they were sent


class Writer:
    """The writing half of the store; for one thread."""

    def __init__(
        self,
        names: Names,
        options: ElasticOptions,
        sender: BulkSender,
        state: StateFile,
        letters: DeadLetters,
        guard: MappingGuard,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._names = names
        self._options = options
        self._sender = sender
        self._state = state
        self._letters = letters
        self._clock_ns = clock_ns
        self._encoder = DocumentEncoder(guard)
        self._running: list[Batch] = []
        self._begun_seq = self._last_seq = state.durable_seq
        # Up to here an earlier process, or an append that failed, may have stored without our knowing.
        self._doubtful_seq = state.state.reserved_seq
        self.dirty = False
        self.counts: Counter[str] = Counter()  # records by what became of them, `bare` among them

    def begin(self, cluster_uuid: str) -> None:
        """Say which cluster it is, as soon as that is known.

        Raises:
            StoreFailed: it is not the one we remember, so that nothing in the log is in it.
        """
        if not self._state.begin(cluster_uuid):
            self._begun_seq = self._last_seq = self._doubtful_seq = 0
            raise StoreFailed("this is another cluster than before: what the write-ahead log has comes again")

    @property
    def durable_seq(self) -> int:
        """Every record up to here is in the cluster or a dead letter, and was when `commit` returned."""
        return self._state.durable_seq

    @property
    def last_seq(self) -> int:
        """Every record up to here is in the cluster or a dead letter."""
        return self._last_seq

    def append(self, records: Sequence[Record], *, check_uids: bool) -> Appended:
        """Send a batch and wait for every verdict; see `Store.append`, `begin_append`, `finish`."""
        return self.finish(self.begin_append(records, check_uids=check_uids))

    def begin_append(self, records: Sequence[Record], *, check_uids: bool) -> Batch:
        """Send a batch and wait for nothing; to be finished in the order of beginning.

        Raises:
            StoreFailed: as `finish` does.
        """
        begun_seq = self._begun_seq
        fresh = [record for record in records if not record.seq or record.seq > begun_seq]
        highest = max((record.seq for record in fresh), default=0)
        refused: list[tuple[Item, Verdict]] = []
        items = self._items(fresh, check_uids, refused)
        bulks = chunks(items, bytes_max=self._options.bulk_bytes, records_max=self._options.bulk_records_max)
        self.dirty = self.dirty or bool(fresh)
        self._begun_seq = max(begun_seq, highest)
        try:
            self._state.reserve(highest)
            delivery = self._sender.begin(bulks)
        except BaseException:
            self._begin_again(highest)
            raise
        batch = Batch(highest, len(records) - len(fresh), delivery, refused)
        self._running.append(batch)
        return batch

    def finish(self, batch: Batch) -> Appended:
        """Wait for every verdict of a batch; what is refused becomes dead letters.

        Raises:
            StoreFailed: what was appended since the last commit has to come again, and so has what was begun.
        """
        if batch not in self._running:
            raise StoreFailed("a batch before this one failed, and both have to come again")
        refused = batch.refused
        try:
            delivered = self._sender.finish(batch.delivery)
            others = [verdict.fate for _, verdict in delivered if verdict is not STORED]
            fates = Counter(others)
            fates[Fate.STORED] += len(delivered) - len(others)
            if fates[Fate.REFUSED]:
                misfits = [pair for pair in delivered if pair[1].fate is Fate.REFUSED]
                refused += self._again_bare(misfits, fates)
            self._bury(refused)
        except BaseException:
            self._running.remove(batch)
            self._begin_again(batch.highest)
            raise
        self._running.remove(batch)
        self._last_seq = max(self._last_seq, batch.highest)
        already = batch.repeated + fates[Fate.ALREADY_STORED]
        self.counts.update(stored=fates[Fate.STORED], already_stored=already, refused=len(refused))
        return Appended(
            stored=fates[Fate.STORED],
            already_stored=already,
            refused=[(item.record, verdict.reason or "refused") for item, verdict in refused],
        )

    def _begin_again(self, highest: int) -> None:
        """After a failure: go back to what is durable, once nothing is on its way that will come again."""
        if not highest:
            return  # dead letters have no numbers, and say nothing of those that have
        for batch in self._running:
            wait(batch.delivery)
        self._running.clear()
        self._doubtful_seq = max(self._doubtful_seq, self._begun_seq)
        self._last_seq = self._begun_seq = self._state.durable_seq

    def commit(self) -> int:
        """Note how far everything is answered for; the caller has made it visible."""
        self._state.make_durable(self._last_seq)
        self.dirty = False
        return self._state.durable_seq

    def replay(self, uids: Iterable[str], edit: Callable[[Record], Record | None]) -> Appended:
        """Append dead letters again, each as `edit` gives it back; `None`: leave it where it is."""
        there = (uid for uid in uids if uid in self._letters)  # somebody else may have been faster
        records = {uid: edit(self._letters.get(uid).as_record()) for uid in there}
        # Their numbers are long behind us: they go as records without one, and are looked up.
        again = [_without_seq(record) for record in records.values() if record is not None]
        appended = self.append(again, check_uids=True)
        still = {record.uid for record, _ in appended.refused}
        done = [uid for uid, record in records.items() if record is not None and record.uid not in still]
        self._letters.remove(done)
        return appended

    # ---------------------------------------------------------------- steps

    def _items(
        self, records: Iterable[Record], check_uids: bool, refused: list[tuple[Item, Verdict]]
    ) -> Iterator[Item]:
        """Encoded one by one, while earlier bulks are on their way."""
        self._encoder.begin_batch()
        stream_of, encode, doubtful_seq = self._names.stream_of, self._encoder.encode, self._doubtful_seq
        for record in records:
            stream = stream_of(record.kind)
            reason = unstorable(record)
            if reason is not None:
                verdict = Verdict(Fate.REFUSED, None, reason, "Elasticsearch holds the years 1970 to 2262")
                refused.append((Item(record, stream, record.uid, b""), verdict))
                continue
            doubtful = check_uids or 0 < record.seq <= doubtful_seq
            yield Item(record, stream, document_id(record.uid), encode(record), doubtful)

    def _again_bare(
        self, misfits: list[tuple[Item, Verdict]], fates: Counter[Fate]
    ) -> list[tuple[Item, Verdict]]:
        """Send what was refused once more with no attribute as a field; return what is refused still."""
        hopeless: list[tuple[Item, Verdict]] = []
        again: dict[str, tuple[Item, Verdict]] = {}
        for item, verdict in misfits:
            if verdict.reason in _MISFITS and (item.record.attributes or item.record.resource):
                again[item.id] = item, verdict
            else:
                hopeless.append((item, verdict))
        if not again:
            return hopeless
        items = [
            Item(item.record, item.stream, item.id, self._encoder.encode(item.record, bare=True), True)
            for item, _ in again.values()
        ]
        bulks = chunks(items, bytes_max=self._options.bulk_bytes, records_max=self._options.bulk_records_max)
        for item, verdict in self._sender.deliver(bulks):
            fates[Fate.REFUSED] -= 1
            if verdict.fate is Fate.REFUSED:
                hopeless.append(again[item.id])  # with the reason and the document of the first time
            else:
                fates[verdict.fate] += 1
                self.counts["bare"] += 1
        return hopeless

    def _bury(self, refused: list[tuple[Item, Verdict]]) -> None:
        now_ns = self._clock_ns()
        letters = [
            make_letter(
                item.record,
                item.stream,
                reason=verdict.reason or "refused",
                message=verdict.message or "",
                field=verdict.field,
                refused_ns=now_ns,
                document=item.document or None,
            )
            for item, verdict in refused
        ]
        self._letters.add(letters)
        if letters:
            first = letters[0]
            logger.error(
                "%d records are dead letters now, the first %s: %s", len(letters), first.uid, first.message
            )


def _without_seq(record: Record) -> Record:
    return msgspec.structs.replace(record, seq=0)
