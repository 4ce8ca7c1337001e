"""Write-ahead log -> store, at least once; with the store's promises, exactly once.

The log is read from the store's durable number on, so that a crash at any moment repeats what the
store may have lost, and the store passes over what it has. The log is released only up to what the
store has made durable and the ledger has saved.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from collector.errors import Overloaded, StoreFailed
from collector.ledger import Ledger
from collector.model import NO_ATTRIBUTES, Record, resource_key
from collector.receive.lines import RecordLine, decode_line, line_decoder, record
from collector.store.contract import Appended, AppendsAhead, Store
from collector.wal import Wal, WalFrame
from tracing.errors import InvalidLine

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_DISK_ERRORS: Final = (StoreFailed, OSError, sqlite3.Error)  # they pass, or need the operator
_HOUR_NS: Final = 3_600_000_000_000
BEGUN_MAX: Final = 1  # batches on their way while the next is made; of a store that has room for such
_RESOURCES_MAX: Final = 10_000  # distinct ones that are shared between records


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexLimits:
    """How the log is carried over into the store."""

    batch_records_max: int = 5_000  # read and appended at once
    commit_interval_s: float = 1.0  # a commit a batch would halve the throughput
    commit_interval_wanted_s: float = 0.1  # ... when somebody waits to see what was sent
    save_interval_s: float = 30.0  # of the ledger, so that a start has little to replay
    retry_s: float = 0.5  # after the store failed, doubled up to `retry_s_max`
    retry_s_max: float = 30.0
    # A batch that the store chokes on so often, with no trouble of the disk, is tried record by record.
    attempts_max: int = 3


class Listener(Protocol):
    """Hears of records once searches find them; after a failure of the store, perhaps again."""

    @property
    def is_listening(self) -> bool:
        """Whether anybody wants to hear."""
        ...

    def publish(self, batch: Sequence[Record]) -> None:
        """Take a batch. Must neither wait nor raise."""
        ...


class Indexer:
    """One background thread that writes to one store."""

    def __init__(
        self,
        wal: Wal,
        store: Store,
        ledger: Ledger,
        *,
        limits: IndexLimits | None = None,
        listener: Listener | None = None,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            wal: read from the store's durable number on, and released.
            store: nobody else writes to it.
            ledger: saved before anything is released.
            limits: the defaults if `None`.
            listener: hears of what became visible.
        """
        self._listener = listener
        self._unheard: list[Sequence[Record]] = []  # since the last commit
        self._ahead = store if isinstance(store, AppendsAhead) else None
        self._begun: deque[Callable[[], Appended]] = deque()  # batches on their way, each to be waited for
        self._asked: deque[tuple[Future[Any], Callable[[Store], Any]]] = deque()
        self._wal = wal
        self._store = store
        self._ledger = ledger
        self._limits = limits or IndexLimits()
        self._decoder = _FrameDecoder()
        self._thread = threading.Thread(target=self._run, name="backtrail-indexer", daemon=True)
        self._stopping = threading.Event()
        self._changed = threading.Condition()  # guards what follows; `_visible_seq` rose
        self._appended_seq = self._visible_seq = store.stats().durable_seq
        self._waiting_for = 0  # the highest number that somebody waits to see
        self._counts: Counter[str] = Counter()
        self._progress_s = time.monotonic()
        self._waiting_ns: int | None = None  # when the oldest record that cannot be found yet was received
        self._committed_s = self._saved_s = time.monotonic()
        self._failures = 0  # in a row, whatever they were
        self._surprises = 0  # those of them that the store's contract does not foresee

    def start(self) -> None:
        """Begin to carry records over."""
        self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Carry over what the log holds, commit, save, and end; False: the time was over before that."""
        self._stopping.set()
        self._wal.nudge()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def wait_until(self, seq: int, timeout_s: float) -> bool:
        """Wait until everything up to a number is found by searches; False: the time was over."""
        with self._changed:
            self._waiting_for = max(self._waiting_for, seq)
        self._wal.nudge()
        with self._changed:
            return self._changed.wait_for(lambda: self._visible_seq >= seq, timeout_s)

    def perform(self, work: Callable[[Store], Result], *, timeout_s: float) -> Result:
        """Have the indexer's thread do something with the store, which only one thread may write to.

        Everything that was in the log when this was called is in the store before the work begins.

        Args:
            work: is given the store; what it returns or raises comes back here.
            timeout_s: longest wait for the work to begin.
        Raises:
            Overloaded: the work has not begun in time, and will not.
        """
        asked: Future[Result] = Future()
        seq = self._wal.last_seq
        if self._thread.is_alive() and self.wait_until(seq, timeout_s):
            self._asked.append((asked, work))
            self._wal.nudge()
            with suppress(TimeoutError):
                return asked.result(timeout_s)
            if not asked.cancel():
                return asked.result()  # it has begun, and must not be left half known
        raise Overloaded("the store is busy with what has come in; try again", retry_after_s=5.0)

    def stats(self) -> dict[str, float]:
        """Counts since the start; `lag_records` in the log, `stalled_s` since it last got shorter.

        `lag_s` is how long the oldest of them has been waiting, since it was received, also over restarts.
        """
        with self._changed:
            lag = max(0, self._wal.last_seq - self._visible_seq)
            return {
                "appended_seq": self._appended_seq,
                "visible_seq": self._visible_seq,
                "lag_records": lag,
                "lag_s": _age_s(self._waiting_ns) if lag and self._waiting_ns is not None else 0.0,
                "stalled_s": round(time.monotonic() - self._progress_s, 3) if lag else 0.0,
                **self._counts,
            }

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        while True:
            try:
                # Asked first: a step that began before it was set may have missed what came last.
                is_last = self._stopping.is_set()
                if not self._step() and is_last:
                    self._commit(save=True)
                    return
                self._failures = self._surprises = 0
            except Exception as error:
                self._recover(error)
                if self._stopping.wait(self._pause_s()) and self._failures >= self._limits.attempts_max:
                    return  # the log has everything, the next start goes on

    def _step(self) -> bool:
        """Carry one batch over, or wait for one; return whether there was one."""
        self._do_what_was_asked()
        last_seq = self._wal.last_seq
        frames = self._wal.read(self._appended_seq, self._limits.batch_records_max)
        if frames:
            if self._appended_seq == self._visible_seq:
                self._waiting_ns = frames[0].envelope.received_ns
            self._append(frames)
        elif last_seq > self._appended_seq:
            with self._changed:  # damaged since it was written; the log has counted it
                self._appended_seq = last_seq
        if self._commit_in_s() <= 0:
            self._commit(save=time.monotonic() - self._saved_s > self._limits.save_interval_s)
        elif not frames and not self._stopping.is_set():
            self._wal.wait_beyond(self._appended_seq, self._commit_in_s())
        return bool(frames)

    def _commit_in_s(self) -> float:
        """How long the next commit may wait."""
        with self._changed:
            dirty = self._appended_seq > self._visible_seq
            wanted = self._waiting_for > self._visible_seq
        limits = self._limits
        if not dirty:
            return limits.commit_interval_s
        interval_s = limits.commit_interval_wanted_s if wanted else limits.commit_interval_s
        return self._committed_s + interval_s - time.monotonic()

    def _append(self, frames: list[WalFrame]) -> None:
        for check, run in groupby(frames, key=self._check_of):
            records = [
                one for frame in run for one in self._decoder.records(frame, self._appended_seq, self._counts)
            ]
            if records:
                self._append_records(records, check)
                if self._listener is not None and self._listener.is_listening:
                    self._unheard.append(records)
        with self._changed:
            self._appended_seq = frames[-1].last_seq

    def _check_of(self, frame: WalFrame) -> _Check:
        """How a frame's records are looked up before they are stored; equal for most neighbours.

        What a foreign sender repeats comes within a window: its cost must not grow with all that is kept.
        """
        envelope = frame.envelope
        if not envelope.check_uids or envelope.digest is None:
            return _Check(envelope.check_uids, 0)
        since_ns = self._ledger.foreign_since_ns(envelope.received_ns)
        return _Check(True, max(0, since_ns - since_ns % _HOUR_NS))

    def _append_records(self, records: list[Record], check: _Check) -> None:
        append = partial(self._store.append, check_uids=check.uids, check_since_ns=check.since_ns)
        if self._surprises < self._limits.attempts_max:
            if self._ahead is not None and not check.uids:
                self._begun.append(self._ahead.begin_append(records))
                self._finish(but=BEGUN_MAX)
                return
            self._finish()
            self._take_note(append(records))
            return
        for one in records:
            try:
                self._take_note(append([one]))
            except _DISK_ERRORS:
                raise
            except Exception:
                logger.exception("record %s cannot be stored and is given up", one.uid)
                self._count(**{"refused.store_failed": 1})

    def _finish(self, *, but: int = 0) -> None:
        """Wait for the batches that are on their way, but for so many of the last."""
        while len(self._begun) > but:
            self._take_note(self._begun.popleft()())

    def _take_note(self, appended: Appended) -> None:
        self._count(stored=appended.stored, already_stored=appended.already_stored)
        for one, reason in appended.refused:
            logger.error("record %s is refused by the store: %s", one.uid, reason)
            self._count(**{f"refused.{reason}": 1})

    def _commit(self, *, save: bool) -> None:
        with self._changed:
            seq = self._appended_seq
            dirty = seq > self._visible_seq
        if dirty:
            self._finish()
            self._store.commit()
        self._committed_s = time.monotonic()
        with self._changed:
            self._visible_seq = seq
            self._waiting_ns = None
            if dirty:
                self._counts["commits"] += 1
                self._progress_s = self._committed_s
            self._changed.notify_all()
        self._tell()
        if save or self._wal.releasable(seq):
            self._ledger.save()
            self._saved_s = time.monotonic()
            self._wal.release(min(seq, self._ledger.saved_seq))

    def _do_what_was_asked(self) -> None:
        while self._asked:
            self._finish()
            asked, work = self._asked.popleft()
            if asked.set_running_or_notify_cancel():
                try:
                    asked.set_result(work(self._store))
                except BaseException as error:  # it belongs to whoever asked
                    asked.set_exception(error)

    def _tell(self) -> None:
        batches, self._unheard = self._unheard, []
        for batch in batches:
            if self._listener is not None:
                self._listener.publish(batch)

    def _recover(self, error: Exception) -> None:
        """Begin again where the store is durable; nothing is lost, the log still has it."""
        self._failures += 1
        self._surprises += not isinstance(error, _DISK_ERRORS)
        self._unheard.clear()
        while self._begun:  # whether they failed as well, only their end says
            with suppress(Exception):
                self._take_note(self._begun.popleft()())
        self._count(failures=1)
        logger.error("the store failed, attempt %d: %s", self._failures, error, exc_info=error)
        try:
            durable_seq = self._store.stats().durable_seq
        except Exception:  # a cluster that is away; the last commit is what we know ourselves
            durable_seq = self._visible_seq
        with self._changed:
            self._appended_seq = durable_seq
            self._visible_seq = min(self._visible_seq, durable_seq)

    def _pause_s(self) -> float:
        return min(self._limits.retry_s * 2.0 ** min(self._failures - 1, 16), self._limits.retry_s_max)

    def _count(self, **by: int) -> None:
        with self._changed:
            self._counts.update(by)


def _age_s(received_ns: int) -> float:
    return round(max(0, time.time_ns() - received_ns) / 1e9, 3)


class _Check(NamedTuple):
    uids: bool
    since_ns: int  # what arrived before need not be looked at


class _FrameDecoder:
    """Frames -> records that share their resources."""

    def __init__(self) -> None:
        self._resources: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}

    def records(self, frame: WalFrame, after_seq: int, counts: Counter[str]) -> Iterator[Record]:
        """The records of a frame with numbers above `after_seq`."""
        resource = self._shared(frame.envelope.resource)
        received_ns = frame.envelope.received_ns
        uids = frame.uids()
        for index, line in enumerate(_decoded(frame)):
            seq = frame.first_seq + index
            uid = uids[index] if uids is not None else line.uid if line is not None else None
            if seq <= after_seq:
                continue
            if line is None or not uid:
                counts["refused.unreadable"] += 1  # admission let something pass that it should not have
                continue
            try:
                yield record(line, uid=uid, resource=resource, received_ns=received_ns, seq=seq)
            except InvalidLine:
                counts["refused.unreadable"] += 1

    def _shared(self, resource: dict[str, Any]) -> dict[str, Any]:
        if not resource:
            return NO_ATTRIBUTES
        key = resource_key(resource)
        if len(self._resources) >= _RESOURCES_MAX:
            self._resources.clear()
        return self._resources.setdefault(key, resource)


def _decoded(frame: WalFrame) -> list[RecordLine | None]:
    try:
        lines: list[RecordLine | None] = list(line_decoder.decode_lines(frame.lines))
        if len(lines) == frame.count:
            return lines
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return [_decoded_line(line) for line in frame.split()]


def _decoded_line(line: bytes) -> RecordLine | None:
    try:
        return decode_line(line)
    except InvalidLine:
        return None
