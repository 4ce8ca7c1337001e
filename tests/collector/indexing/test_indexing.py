"""From the log into the store: everything, once, whatever fails in between."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from collector.errors import StoreFailed
from collector.indexing import Indexer, IndexLimits
from collector.intake import open_log
from collector.ledger import Ledger
from collector.model import Record
from collector.store.contract import Appended
from collector.store.embedded import EmbeddedStore
from collector.store.memory import MemoryStore
from collector.wal import Envelope, Wal, WalBatch, WalFrame, WalLimits
from tracing.line import encode

SPOOL = "ab" * 16
FAST = IndexLimits(batch_records_max=7, commit_interval_s=0.01, retry_s=0.001, retry_s_max=0.002)
WAL = WalLimits(segment_bytes_max=4096, frame_bytes_max=1024, disk_free_bytes_min=0)
WAIT_S = 60.0


def line(number: int, **fields: object) -> bytes:
    return encode({"timestamp": number, "level": "INFO", "service": "s", "message": f"{number}", **fields})


def batch(*numbers: int, first: int = 0) -> WalBatch:
    lines = b"".join(line(number) for number in numbers)
    envelope = Envelope(received_ns=1, resource={"a": 1}, origin=SPOOL, first=first, end=first + len(lines))
    return WalBatch(envelope, lines)


def fill(wal: Wal, batches: int, start: int = 0) -> int:
    """Append batches of five lines, numbered on; return the number after the last."""
    offset = start * 200
    for at in range(start, start + batches):
        one = batch(*range(at * 5, at * 5 + 5), first=offset)
        offset = one.envelope.end
        wal.append(one)
    return (start + batches) * 5


def messages(store: MemoryStore | EmbeddedStore) -> Counter[int]:
    return Counter(int(record.message or -1) for record in store.search(limit=10**6).records)


@pytest.fixture
def running() -> Iterator[Callable[[Indexer], Indexer]]:
    """Start an indexer; it is stopped when the test is over."""
    started: list[Indexer] = []

    def start(indexer: Indexer) -> Indexer:
        started.append(indexer)
        indexer.start()
        return indexer

    yield start
    for indexer in started:
        assert indexer.stop(WAIT_S)


@pytest.fixture
def log(tmp_path: Path) -> tuple[Wal, Ledger]:
    return open_log(tmp_path, durable_seq=0, wal_limits=WAL)


def test_what_came_just_before_the_stop_is_carried_over(
    log: tuple[Wal, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the thread had looked a moment earlier and found nothing."""
    wal, ledger = log
    store = MemoryStore()
    indexer = Indexer(wal, store, ledger, limits=FAST)
    read = wal.read

    def read_too_early(after_seq: int, records_max: int) -> list[WalFrame]:
        found = read(after_seq, records_max)
        monkeypatch.setattr(wal, "read", read)
        fill(wal, 1)
        indexer._stopping.set()
        return found

    monkeypatch.setattr(wal, "read", read_too_early)
    indexer.start()
    assert indexer.stop(WAIT_S)
    assert messages(store).total() == 5


def test_what_is_in_the_log_is_found(log: tuple[Wal, Ledger], running: Callable[[Indexer], Indexer]) -> None:
    """What was there before, what comes while it runs; with identity, resource, time and number."""
    wal, ledger = log
    store = MemoryStore()
    count = fill(wal, 10)
    indexer = running(Indexer(wal, store, ledger, limits=FAST))
    assert indexer.wait_until(wal.last_seq, WAIT_S)
    assert messages(store) == Counter(range(count))
    fill(wal, 3, start=10)
    assert indexer.wait_until(wal.last_seq, WAIT_S)
    assert messages(store) == Counter(range(count + 15))
    records = sorted(store.search(limit=1000).records, key=lambda record: record.seq)
    assert [record.seq for record in records] == list(range(1, 66))
    assert records[1].uid == f"{SPOOL}-{len(line(0))}"
    assert (records[0].resource, records[0].received_ns) == ({"a": 1}, 1)
    stats = indexer.stats()
    assert (stats["stored"], stats["lag_records"], stats["stalled_s"]) == (65, 0, 0.0)


def test_lines_that_carry_their_identity_are_looked_up(
    log: tuple[Wal, Ledger], running: Callable[[Indexer], Indexer]
) -> None:
    """Importing twice is harmless, in one batch or in two, beside records that are not looked up."""
    wal, ledger = log
    named = Envelope(received_ns=1, named=True, check_uids=True)
    lines = b"".join(line(n)[:-2] + b',"uid":"u%d"}\n' % n for n in range(5))
    for _ in range(2):
        wal.append(WalBatch(named, lines + lines), batch(7))
    store = MemoryStore()
    indexer = running(Indexer(wal, store, ledger))
    assert indexer.wait_until(wal.last_seq, WAIT_S)
    assert messages(store) == Counter([*range(5), 7, 7])
    assert indexer.stats()["already_stored"] == 15


def test_notes_are_no_records(log: tuple[Wal, Ledger], running: Callable[[Indexer], Indexer]) -> None:
    """Frames without lines are passed, and the waiting ends."""
    wal, ledger = log
    wal.append(WalBatch(Envelope(received_ns=1, origin=SPOOL, end=10, refused={"not_json": 2})))
    store = MemoryStore()
    assert running(Indexer(wal, store, ledger)).wait_until(wal.last_seq, WAIT_S)
    assert store.stats().records == 0


def test_a_line_that_cannot_be_read_is_counted(
    log: tuple[Wal, Ledger], running: Callable[[Indexer], Indexer]
) -> None:
    """Admission should have refused it; its neighbours are stored all the same."""
    wal, ledger = log
    bad = b"nonsense\n" + line(1).replace(b'"level"', b'"lovel"')
    wal.append(WalBatch(Envelope(received_ns=1, origin=SPOOL, end=999), line(0) + bad + line(2)))
    store = MemoryStore()
    indexer = running(Indexer(wal, store, ledger))
    assert indexer.wait_until(wal.last_seq, WAIT_S)
    assert messages(store) == Counter([0, 2])
    assert indexer.stats()["refused.unreadable"] == 2


def test_damage_in_the_log_does_not_stop_it(tmp_path: Path, running: Callable[[Indexer], Indexer]) -> None:
    """In the middle, or at the end: what is lost is passed over, and waiting for it ends."""
    wal, ledger = open_log(tmp_path, durable_seq=0, wal_limits=WalLimits(disk_free_bytes_min=0))
    count = fill(wal, 6)
    (path,) = (tmp_path / "wal").iterdir()
    content = bytearray(path.read_bytes())
    for at in (len(content) // 2, len(content) - 1):
        content[at] ^= 0xFF
    path.write_bytes(content)
    store = MemoryStore()
    indexer = running(Indexer(wal, store, ledger, limits=FAST))
    assert indexer.wait_until(wal.last_seq, WAIT_S)
    assert len(messages(store)) == count - 10
    fill(wal, 1, start=6)
    assert indexer.wait_until(wal.last_seq, WAIT_S)
    assert len(messages(store)) == count - 5
    assert wal.stats()["lost_records"] == 10


class Failing(MemoryStore):
    """Fails now and then as the contract allows: what was not committed is gone."""

    def __init__(self, fail_on: set[int]) -> None:
        super().__init__()
        self.fail_on, self.calls = fail_on, 0

    def _maybe_fail(self) -> None:
        self.calls += 1
        if self.calls in self.fail_on:
            for record in self._appended:
                self._uids[record.uid] -= 1
            self._appended = []
            self._last_seq = self._durable_seq
            raise StoreFailed("no space left on device")

    def append(
        self, records: Sequence[Record], *, check_uids: bool = False, check_since_ns: int = 0
    ) -> Appended:
        appended = super().append(records, check_uids=check_uids, check_since_ns=check_since_ns)
        self._maybe_fail()
        return appended

    def commit(self) -> int:
        self._maybe_fail()
        return super().commit()


def test_a_store_that_fails_gets_everything_again(
    log: tuple[Wal, Ledger], running: Callable[[Indexer], Indexer], caplog: pytest.LogCaptureFixture
) -> None:
    """Disk full, then space again: no restart, nothing lost, nothing twice, and it was said."""
    wal, ledger = log
    store = Failing(fail_on={1, 3, 4, 5, 6, 9, 12})
    count = fill(wal, 20)
    with caplog.at_level(logging.ERROR):
        indexer = running(Indexer(wal, store, ledger, limits=FAST))
        assert indexer.wait_until(wal.last_seq, WAIT_S)
    assert messages(store) == Counter(range(count))
    assert indexer.stats()["failures"] == 7
    assert "no space left on device" in caplog.text


class Poisoned(MemoryStore):
    """Cannot take one record, for a reason nobody foresaw."""

    def append(
        self, records: Sequence[Record], *, check_uids: bool = False, check_since_ns: int = 0
    ) -> Appended:
        for record in records:
            if record.message == "13":
                raise ValueError("unlucky")
            super().append([record], check_uids=check_uids)
        return Appended(stored=len(records), already_stored=0)


def test_a_record_that_the_store_chokes_on_is_given_up(
    log: tuple[Wal, Ledger], running: Callable[[Indexer], Indexer], caplog: pytest.LogCaptureFixture
) -> None:
    """After some attempts, alone, counted and named; the log does not stand still behind it."""
    wal, ledger = log
    store = Poisoned()
    count = fill(wal, 8)
    indexer = running(Indexer(wal, store, ledger, limits=FAST))
    assert indexer.wait_until(wal.last_seq, WAIT_S)
    assert messages(store) == Counter(set(range(count)) - {13})
    assert indexer.stats()["refused.store_failed"] == 1
    assert "cannot be stored and is given up" in caplog.text


class Picky(MemoryStore):
    """Refuses one record, as the contract allows."""

    def append(
        self, records: Sequence[Record], *, check_uids: bool = False, check_since_ns: int = 0
    ) -> Appended:
        bad = [record for record in records if record.message == "13"]
        taken = super().append([record for record in records if record not in bad], check_uids=check_uids)
        return Appended(stored=taken.stored, already_stored=0, refused=[(one, "too_odd") for one in bad])


def test_a_record_that_the_store_refuses_is_counted(
    log: tuple[Wal, Ledger], running: Callable[[Indexer], Indexer]
) -> None:
    """By the store's own reason."""
    wal, ledger = log
    count = fill(wal, 4)
    store = Picky()
    indexer = running(Indexer(wal, store, ledger))
    assert indexer.wait_until(wal.last_seq, WAIT_S)
    assert len(messages(store)) == count - 1
    assert indexer.stats()["refused.too_odd"] == 1


def test_the_log_is_released_after_the_ledger_was_saved(
    log: tuple[Wal, Ledger], running: Callable[[Indexer], Indexer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never beyond what is saved: releasing must not re-open duplicates."""
    wal, ledger = log
    released: list[tuple[int, int]] = []
    release = wal.release

    def watched(durable_seq: int) -> int:
        released.append((durable_seq, ledger.saved_seq))
        return release(durable_seq)

    monkeypatch.setattr(wal, "release", watched)
    fill(wal, 40)
    segments_before = wal.stats()["segments"]
    indexer = running(Indexer(wal, MemoryStore(), ledger, limits=FAST))
    assert indexer.wait_until(wal.last_seq, WAIT_S)
    assert indexer.stop(WAIT_S)
    assert released and all(durable <= saved for durable, saved in released)
    assert wal.stats()["segments"] == 1 < segments_before


def test_stopping_carries_over_what_the_log_holds(log: tuple[Wal, Ledger]) -> None:
    """SIGTERM loses nothing and leaves nothing to be done by the next start."""
    wal, ledger = log
    count = fill(wal, 30)
    store = MemoryStore()
    indexer = Indexer(wal, store, ledger, limits=FAST)
    indexer.start()
    assert indexer.stop(WAIT_S)
    assert messages(store) == Counter(range(count))
    assert ledger.saved_seq == wal.last_seq == store.stats().durable_seq


def test_stopping_ends_though_the_store_is_dead(log: tuple[Wal, Ledger]) -> None:
    """The log has everything; the next start goes on."""
    wal, ledger = log
    fill(wal, 3)
    indexer = Indexer(wal, Failing(fail_on=set(range(10_000))), ledger, limits=FAST)
    indexer.start()
    assert indexer.stop(WAIT_S)
    assert ledger.saved_seq == 0


def test_a_standstill_can_be_seen(log: tuple[Wal, Ledger], running: Callable[[Indexer], Indexer]) -> None:
    """How far behind, and for how long: what readiness is made of."""
    wal, ledger = log
    fill(wal, 2)
    gate = threading.Event()

    class Stuck(MemoryStore):
        def commit(self) -> int:
            assert gate.wait(WAIT_S)
            return super().commit()

    indexer = running(Indexer(wal, Stuck(), ledger, limits=FAST))
    assert not indexer.wait_until(wal.last_seq, 0.05)
    stats = indexer.stats()
    assert stats["lag_records"] == 10 and stats["stalled_s"] > 0
    assert stats["lag_s"] > 3_600  # they were received long ago, as after a restart
    gate.set()
    assert indexer.wait_until(wal.last_seq, WAIT_S)
    assert indexer.stats()["stalled_s"] == indexer.stats()["lag_s"] == 0


# ---------------------------------------------------------------- a crash at any step


class Crash(BaseException):
    """The machine stops: no handler of ours may catch this."""


class Disk:
    """What survives: committed records. Counts the steps, and crashes at one of them."""

    def __init__(self, crash_at: int) -> None:
        self.committed: list[Record] = []
        self.crash_at, self.steps = crash_at, 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.crash_at:
            raise Crash


class DurableMemory(MemoryStore):
    """A store whose committed records survive on a `Disk`."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self.disk = disk
        super().append(disk.committed)
        super().commit()

    def append(
        self, records: Sequence[Record], *, check_uids: bool = False, check_since_ns: int = 0
    ) -> Appended:
        self.disk.step()
        return super().append(records, check_uids=check_uids, check_since_ns=check_since_ns)

    def commit(self) -> int:
        self.disk.step()
        durable_seq = super().commit()
        self.disk.committed = list(self._visible)
        self.disk.step()
        return durable_seq


@pytest.mark.parametrize("crash_at", range(1, 40, 3))
def test_a_crash_at_any_step_loses_nothing_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    """Before and after each append, commit, save and release; then the next life finishes the work."""
    disk = Disk(crash_at)
    total = 0
    for life in range(3):
        store = DurableMemory(disk)
        wal, ledger = open_log(tmp_path, durable_seq=store.stats().durable_seq, wal_limits=WAL)
        total = fill(wal, 12, start=life * 12)
        save, release = ledger.save, wal.release

        def stepping_save(save: Callable[[], int] = save) -> int:
            disk.step()
            seq = save()
            disk.step()
            return seq

        def stepping_release(seq: int, release: Callable[[int], int] = release) -> int:
            freed = release(seq)
            disk.step()
            return freed

        monkeypatch.setattr(ledger, "save", stepping_save)
        monkeypatch.setattr(wal, "release", stepping_release)
        indexer = Indexer(wal, store, ledger, limits=FAST)
        try:
            while indexer._step():
                indexer._commit(save=False)
            indexer._commit(save=True)
        except Crash:
            disk.crash_at = 0 if life else disk.steps + crash_at
        wal._drop_writer()
        ledger._file.close()
    store = DurableMemory(disk)
    assert messages(store) == Counter(range(total))


def test_the_embedded_store_goes_on_where_it_was(
    tmp_path: Path, running: Callable[[Indexer], Indexer]
) -> None:
    """The real store, twice opened without an orderly end, on one log."""
    expected = 0
    for life in range(3):
        store = EmbeddedStore.open(tmp_path / "store")
        wal, ledger = open_log(tmp_path, durable_seq=store.stats().durable_seq, wal_limits=WAL)
        expected = fill(wal, 20, start=life * 20)
        indexer = running(Indexer(wal, store, ledger, limits=FAST))
        assert indexer.wait_until(wal.last_seq, WAIT_S)
        assert messages(store) == Counter(range(expected))
        assert indexer.stop(WAIT_S)
        wal.close()
        ledger.close()
        store.close()
    assert expected == 300


def test_only_what_is_imported_is_looked_up_in_everything(
    log: tuple[Wal, Ledger], running: Callable[[Indexer], Indexer]
) -> None:
    """A foreign request comes again within its window, a file any time, a spool never."""
    wal, ledger = log
    hour_ns = 3_600_000_000_000
    checks: list[tuple[bool, int]] = []

    class Watched(MemoryStore):
        def append(
            self, records: Sequence[Record], *, check_uids: bool = False, check_since_ns: int = 0
        ) -> Appended:
            checks.append((check_uids, check_since_ns))
            return super().append(records, check_uids=check_uids, check_since_ns=check_since_ns)

    named = line(1)[:-2] + b',"uid":"u"}\n'
    arrived = {"received_ns": 10 * hour_ns + 5}
    foreign = Envelope(**arrived, origin=SPOOL, digest="d", end=1, named=True, check_uids=True)
    wal.append(batch(1))
    wal.append(WalBatch(foreign, named))
    wal.append(WalBatch(Envelope(**arrived, named=True, check_uids=True), named))
    running(Indexer(wal, Watched(), ledger, limits=FAST)).wait_until(wal.last_seq, WAIT_S)
    assert checks == [(False, 0), (True, 9 * hour_ns), (True, 0)]
