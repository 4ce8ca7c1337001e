"""A store far away is on its way with one batch while the next is made; nothing is lost or twice for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from collector.errors import StoreFailed
from collector.indexing import BEGUN_MAX, Indexer, IndexLimits
from collector.intake import open_log
from collector.ledger import Ledger
from collector.model import Record
from collector.store.contract import Appended, StoreStats
from collector.store.memory import MemoryStore
from collector.wal import Envelope, Wal, WalBatch, WalFrame, WalLimits
from tracing.line import encode

SPOOL = "ab" * 16
WAIT_S = 60.0
LIMITS = IndexLimits(batch_records_max=5, commit_interval_s=0.2, retry_s=0.001, retry_s_max=0.002)
WAL = WalLimits(segment_bytes_max=4096, frame_bytes_max=1024, disk_free_bytes_min=0)


class FarStore(MemoryStore):
    """Has its records only when a batch is waited for, and fails when told to; then it says nothing, too."""

    def __init__(self, *, begins_fail: Sequence[int] = (), ends_fail: Sequence[int] = ()) -> None:
        super().__init__()
        self.on_their_way: list[Sequence[Record]] = []
        self.most_on_their_way = self.begins = self.ends = 0
        self.away = False  # since a failure and until the next batch, nobody answers
        self.too_early = 0  # calls with a batch on its way that should have been waited for
        self._begins_fail, self._ends_fail = begins_fail, ends_fail

    def begin_append(self, records: Sequence[Record]) -> Callable[[], Appended]:
        self.begins += 1
        self.away = False
        if self.begins in self._begins_fail:
            self._fail()
        self.on_their_way.append(records)
        self.most_on_their_way = max(self.most_on_their_way, len(self.on_their_way))
        return lambda: self._end(records)

    def _end(self, records: Sequence[Record]) -> Appended:
        self.ends += 1
        if not any(one is records for one in self.on_their_way):
            raise StoreFailed("a batch before this one failed")
        if self.ends in self._ends_fail:
            self._fail()
        assert self.on_their_way.pop(0) is records
        return super().append(records)

    def _fail(self) -> NoReturn:
        self.on_their_way.clear()
        self.away = True
        raise StoreFailed("not this time")

    def stats(self) -> StoreStats:
        if self.away:
            raise StoreFailed("nobody answers")
        return super().stats()

    def append(
        self, records: Sequence[Record], *, check_uids: bool = False, check_since_ns: int = 0
    ) -> Appended:
        self.too_early += bool(self.on_their_way)
        return super().append(records, check_uids=check_uids)

    def commit(self) -> int:
        self.too_early += bool(self.on_their_way)
        return super().commit()


def fill(wal: Wal, lines: int, *, check_uids: bool = False) -> None:
    """Batches of five lines, numbered on from what the log has."""
    offset = wal.last_seq * 200
    for at in range(wal.last_seq, wal.last_seq + lines, 5):
        body = b"".join(
            encode({"timestamp": number, "level": "INFO", "service": "s", "message": f"{number}"})
            for number in range(at, at + 5)
        )
        end = offset + len(body)
        envelope = Envelope(
            received_ns=1, resource={}, origin=SPOOL, first=offset, end=end, check_uids=check_uids
        )
        wal.append(WalBatch(envelope, body))
        offset = end


def carried_over(wal: Wal, ledger: Ledger, store: FarStore) -> Counter[int]:
    """What the store has once an indexer has been through the log."""
    indexer = Indexer(wal, store, ledger, limits=LIMITS)
    indexer.start()
    assert indexer.wait_until(wal.last_seq, WAIT_S), indexer.stats()
    assert indexer.stop(WAIT_S)
    assert store.too_early == 0
    return Counter(int(record.message or -1) for record in store.search(limit=10**6).records)


@pytest.fixture
def log(tmp_path: Path) -> tuple[Wal, Ledger]:
    return open_log(tmp_path, durable_seq=0, wal_limits=WAL)


def test_the_next_batch_begins_before_the_last_has_ended(log: tuple[Wal, Ledger]) -> None:
    """One more than may stay behind, never more, and none at a commit."""
    wal, ledger = log
    fill(wal, 200)
    store = FarStore()
    assert carried_over(wal, ledger, store) == Counter(range(200))
    assert store.most_on_their_way == BEGUN_MAX + 1


@pytest.mark.parametrize(
    "failures",
    [
        {"ends_fail": [1]},
        {"ends_fail": [3, 4, 9]},
        {"begins_fail": [1]},
        {"begins_fail": [2, 5, 6]},
        {"begins_fail": [4], "ends_fail": [2, 11]},
    ],
    ids=str,
)
def test_a_failure_loses_nothing_and_doubles_nothing(
    log: tuple[Wal, Ledger], failures: dict[str, list[int]]
) -> None:
    """Whether a batch fails at its beginning or at its end, with another on its way."""
    wal, ledger = log
    fill(wal, 100)
    assert carried_over(wal, ledger, FarStore(**failures)) == Counter(range(100))


def test_what_is_looked_up_waits_for_what_is_on_its_way(log: tuple[Wal, Ledger]) -> None:
    """It must find what the batch before has."""
    wal, ledger = log
    for check_uids in (False, True, False):
        fill(wal, 20, check_uids=check_uids)
    assert carried_over(wal, ledger, FarStore()) == Counter(range(60))


def test_a_log_that_cannot_be_read_leaves_no_batch_behind(
    log: tuple[Wal, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch on its way is waited for, so that the store knows what it has when all comes again."""
    wal, ledger = log
    fill(wal, 60)
    read, reads = wal.read, Counter[str]()

    def fails_twice(after_seq: int, records_max: int) -> list[WalFrame]:
        reads["all"] += 1
        if reads["all"] in (2, 5):
            raise OSError("the disk says no")
        return read(after_seq, records_max)

    monkeypatch.setattr(wal, "read", fails_twice)
    store = FarStore()
    assert carried_over(wal, ledger, store) == Counter(range(60))
    assert store.ends == store.begins
