"""One request: decode, admit, skip what is known, append, answer.

An answer that acknowledges anything is given after the write-ahead log has it durably. What is known
already is skipped by the sender's own positions, under the sender's turn, so that a batch that arrives
twice at the same moment is stored once.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from collector.admit import AdmitLimits, Admitted, RefusedLine, admit_lines
from collector.admit.values import mended_attributes
from collector.errors import Overloaded
from collector.ledger import Ledger, LedgerLimits
from collector.receive.encodings import unpacked
from collector.receive.native import Import, SpoolPlace, parent_spool, read_place, split_header
from collector.wal import Envelope, Wal, WalBatch, WalLimits

REFUSED_LISTED_MAX: Final = 1_000  # lines that one answer names; `refused_count` counts them all


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeLimits:
    """Bounds of one request."""

    unpacked_bytes_max: int = 64 * 1024**2
    # A sender whose earlier request is still under way has the next one wait for so long.
    turn_wait_s: float = 10.0
    admit: AdmitLimits = field(default_factory=AdmitLimits)


class IngestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request to `/v1/records`."""

    acknowledged_offset: int | None  # first byte that is not yet durable; None: an import has no offsets
    stored: int  # lines that are durable now and were not before
    refused: list[RefusedLine] = []  # the first `REFUSED_LISTED_MAX`; they count as done
    refused_count: int = 0

    def body(self) -> bytes:
        """The JSON text."""
        return _answers.encode(self)


_answers: Final = msgspec.json.Encoder()


def open_log(
    directory: Path,
    *,
    durable_seq: int,
    wal_limits: WalLimits | None = None,
    ledger_limits: LedgerLimits | None = None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> tuple[Wal, Ledger]:
    """Open the write-ahead log and the ledger of a data directory, the ledger up to date with the log.

    Args:
        directory: holds `wal/` and `ledger.sqlite`; the caller has the lock on it.
        durable_seq: the highest number that the store has, so that none is given out twice.
    Raises:
        OSError, sqlite3.Error: the directory cannot be used.
    """
    ledger = Ledger.open(directory, limits=ledger_limits, clock_ns=clock_ns)
    try:
        wal = Wal.open(
            directory / "wal",
            limits=wal_limits,
            seq_after=max(durable_seq, ledger.seq),
            observer=ledger.apply,
        )
    except BaseException:
        ledger.close()
        raise
    ledger.replay(wal)
    return wal, ledger


class Intake:
    """Takes requests in. Blocking; any thread may call any method."""

    def __init__(
        self,
        wal: Wal,
        ledger: Ledger,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        limits: IntakeLimits | None = None,
    ) -> None:
        """Stand between requests and the log.

        Args:
            wal: where what is taken goes; its observer is `ledger.apply`.
            ledger: knows what is there already.
            clock_ns: now, epoch nanoseconds.
            limits: bounds; the defaults if `None`.
        """
        self._wal = wal
        self._ledger = ledger
        self._clock_ns = clock_ns
        self._limits = limits or IntakeLimits()
        self._turns = _Turns(self._limits.turn_wait_s)
        self._counts: Counter[str] = Counter()
        self._counts_lock = threading.Lock()

    def records(self, headers: Mapping[str, str], body: bytes) -> IngestAnswer:
        """Take the lines of a shipper or an importer.

        Args:
            headers: of the request, names in lower case or a mapping that does not care.
            body: as it came, perhaps packed.
        Raises:
            Refused: the request is wrong as a whole.
            Overloaded: there is no room; nothing was taken.
        """
        place = read_place(headers)
        data = unpacked(body, headers.get("content-encoding"), bytes_max=self._limits.unpacked_bytes_max)
        if isinstance(place, Import):
            answer = self._import(data)
        else:
            answer = self._spool(place, data)
        self._count(requests=1, bytes=len(body), lines=answer.stored, refused=answer.refused_count)
        return answer

    def stats(self) -> dict[str, int]:
        """Counts since the start: requests, bytes as they came, lines taken, lines refused."""
        with self._counts_lock:
            return dict(self._counts)

    def _count(self, **by: int) -> None:
        with self._counts_lock:
            self._counts.update(by)

    # ---------------------------------------------------------------- native

    def _spool(self, place: SpoolPlace, data: bytes) -> IngestAnswer:
        header, lines = split_header(data, place.spool_id)
        lines = lines[: lines.rfind(b"\n") + 1]  # data ends at the last newline, as in the spool itself
        resource = mended_attributes(header.resource, self._limits.admit, Counter())
        spool_id, offset = place.spool_id, place.offset
        with self._turns.of(spool_id):
            looked_at: list[Admitted] = []
            batches: list[WalBatch] = []
            for start, end in self._ledger.wanted(spool_id, offset, offset + len(lines)):
                first = _line_start(lines, start - offset)
                last = _line_start(lines, end - offset)
                if first == last:
                    continue
                admitted = admit_lines(lines[first:last], offset=offset + first, limits=self._limits.admit)
                looked_at.append(admitted)
                envelope = Envelope(
                    received_ns=self._clock_ns(),
                    resource=resource,
                    origin=spool_id,
                    first=start,
                    end=end,
                    jumps=_shifted(admitted.jumps, offset + first - start),
                    check_uids=self._ledger.may_have_forgotten(),
                    first_written_ns=admitted.first_written_ns,
                    last_written_ns=admitted.last_written_ns,
                    parent=parent_spool(header),
                    refused=_by_reason(admitted.refused),
                    mended=admitted.mended,
                    losses=admitted.losses,
                    close=admitted.close,
                )
                batches.append(WalBatch(envelope, admitted.lines))
            if batches:
                self._wal.append(*batches)
            return _answer(looked_at, self._ledger.acknowledged(spool_id, offset))

    def _import(self, data: bytes) -> IngestAnswer:
        if data and not data.endswith(b"\n"):
            data += b"\n"
        admitted = admit_lines(data, named=True, limits=self._limits.admit)
        envelope = Envelope(
            received_ns=self._clock_ns(),
            check_uids=True,
            refused=_by_reason(admitted.refused),
            mended=admitted.mended,
        )
        if data:
            self._wal.append(WalBatch(envelope, admitted.lines))
        return _answer([admitted], None)


def _answer(looked_at: list[Admitted], acknowledged_offset: int | None) -> IngestAnswer:
    refused = [line for admitted in looked_at for line in admitted.refused]
    return IngestAnswer(
        acknowledged_offset=acknowledged_offset,
        stored=sum(admitted.count for admitted in looked_at),
        refused=refused[:REFUSED_LISTED_MAX],
        refused_count=len(refused),
    )


def _line_start(lines: bytes, at: int) -> int:
    """The first place from `at` on where a line begins."""
    if at <= 0 or lines[at - 1 : at] == b"\n":
        return max(at, 0)
    end = lines.find(b"\n", at)
    return len(lines) if end < 0 else end + 1


def _shifted(jumps: list[tuple[int, int]], by: int) -> list[tuple[int, int]]:
    """The jumps, with one more before the first line."""
    if not by:
        return jumps
    if jumps and jumps[0][0] == 0:
        return [(0, jumps[0][1] + by), *jumps[1:]]
    return [(0, by), *jumps]


def _by_reason(refused: list[RefusedLine]) -> dict[str, int]:
    return dict(Counter(line.reason for line in refused))


class _Turns:
    """One sender's requests, one after the other; different senders side by side."""

    _STRIPES: Final = 256  # senders that share one wait for each other at worst

    def __init__(self, wait_s: float) -> None:
        self._locks = [threading.Lock() for _ in range(self._STRIPES)]
        self._wait_s = wait_s

    @contextmanager
    def of(self, key: str) -> Iterator[None]:
        lock = self._locks[hash(key) % self._STRIPES]
        if not lock.acquire(timeout=self._wait_s):
            raise Overloaded("an earlier request of this sender is still under way", retry_after_s=1.0)
        try:
            yield
        finally:
            lock.release()
