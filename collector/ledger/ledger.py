"""What arrived, what is missing, and why.

The ledger's state is a fold over the envelopes of the write-ahead log, in the order of their numbers:
`apply` is called for each durable frame while the collector runs, and for the frames above the saved
number when it starts. So it is exact after a crash at any moment, and cannot disagree with the log.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from collector.ledger.file import LedgerFile
from collector.ledger.limits import LedgerLimits
from collector.ledger.state import Hole, RequestState, SpoolState
from collector.model import Gap, Record, TraceStatus
from collector.wal import Wal, WalFrame

_SPOOL_ID_CHARS = 32
_SURPLUS_SPOOLS_MAX = 1_000
_REPLAY_RECORDS = 50_000
_encoder = msgspec.json.Encoder()
_spool_decoder = msgspec.json.Decoder(SpoolState)
_request_decoder = msgspec.json.Decoder(RequestState)


class Ledger:
    """The state of every sender. Any thread may call any method."""

    def __init__(
        self, file: LedgerFile, *, limits: LedgerLimits, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """Use `open`."""
        self._file = file
        self._limits = limits
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        meta = file.meta()
        self._seq = self._saved_seq = meta.get("seq", 0)
        # What the lost one knew is not known any more: for a while, lines are looked up before storing.
        self._lost_ns = clock_ns() if file.set_aside else meta.get("lost_ns", 0)
        self._spools: OrderedDict[str, SpoolState] = OrderedDict()
        self._requests: OrderedDict[str, RequestState] = OrderedDict(
            (digest, _request_decoder.decode(state))
            for digest, state in file.requests(limits.foreign_requests_max)
        )
        self._counters = Counter(file.counters())
        self._changed_spools: set[str] = set()
        self._changed_requests: set[str] = set()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        limits: LedgerLimits | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        read_only: bool = False,
    ) -> Ledger:
        """Open the ledger in a data directory, making it if need be.

        Args:
            directory: holds `ledger.sqlite`.
            limits: bounds; the defaults if `None`.
            clock_ns: now, epoch nanoseconds.
            read_only: see what was saved last, while another process writes.
        Raises:
            OSError, sqlite3.Error: no file can be made in the directory.
        """
        if not read_only:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(
            LedgerFile(directory, read_only=read_only), limits=limits or LedgerLimits(), clock_ns=clock_ns
        )

    # ---------------------------------------------------------------- taking note

    @property
    def seq(self) -> int:
        """The number of the last frame that was taken note of."""
        return self._seq

    @property
    def saved_seq(self) -> int:
        """The log may be released up to here: a start would know everything before it."""
        return self._saved_seq

    def apply(self, frame: WalFrame) -> None:
        """Take note of a durable frame; one that is known already changes nothing."""
        with self._lock:
            if frame.last_seq <= self._seq:
                return
            envelope = frame.envelope
            if envelope.digest is not None and envelope.origin is not None:
                self._note_request(frame, envelope.digest, envelope.origin)
            elif envelope.origin is not None:
                self._spool(envelope.origin).apply(envelope, frame.count)
                self._changed_spools.add(envelope.origin)
            self._counters["lines"] += frame.count
            for name, counts in (("refused", envelope.refused), ("mended", envelope.mended)):
                for reason, count in counts.items():
                    self._counters[f"{name}.{reason}"] += count
            for loss in envelope.losses:
                self._counters[f"lost.{loss.reason}"] += loss.count
            self._seq = frame.last_seq

    def _note_request(self, frame: WalFrame, digest: str, origin: str) -> None:
        envelope = frame.envelope
        state = self._requests.get(digest)
        if state is None or state.origin != origin:
            state = RequestState(origin=origin, done=0, complete=False, received_ns=envelope.received_ns)
            self._requests[digest] = state
            self._requests.move_to_end(digest)
            while len(self._requests) > self._limits.foreign_requests_max:
                self._requests.popitem(last=False)
        state.done = max(state.done, envelope.end)
        state.complete = state.complete or envelope.complete
        self._changed_requests.add(digest)

    def _spool(self, spool_id: str) -> SpoolState:
        """The state of a spool, a blank one if it is not known; in memory from now on.

        So `apply`, which must not fail, finds what `wanted` has looked up before.
        """
        state = self._spools.get(spool_id)
        if state is None:
            self._drop_unchanged()
            stored = self._file.spool(spool_id)
            state = SpoolState(spool_id=spool_id) if stored is None else _spool_decoder.decode(stored)
            self._spools[spool_id] = state
        else:
            self._spools.move_to_end(spool_id)
        return state

    def _drop_unchanged(self) -> None:
        surplus = len(self._spools) - self._limits.spools_in_memory_max
        if surplus > _SURPLUS_SPOOLS_MAX:  # many at once, for the search is long
            for spool_id in [key for key in self._spools if key not in self._changed_spools][:surplus]:
                del self._spools[spool_id]

    def replay(self, wal: Wal) -> None:
        """Take note of every frame of the log that is not in the file yet; once, at the start."""
        while frames := wal.read(self._seq, _REPLAY_RECORDS):
            for frame in frames:
                self.apply(frame)

    def save(self) -> int:
        """Write what changed; return the number up to which the log is now not needed here.

        Raises:
            sqlite3.Error: nothing was written; the log must be kept.
        """
        now_ns = self._clock_ns()
        limits = self._limits
        with self._lock:
            seq = self._seq
            spools = [self._spools[spool_id] for spool_id in self._changed_spools]
            requests = [(key, self._requests[key]) for key in self._changed_requests if key in self._requests]
            self._file.save(
                meta={"seq": seq, "lost_ns": self._lost_ns},
                spools=[(s.spool_id, s.last_received_ns, _encoder.encode(s)) for s in spools],
                requests=[(key, state.received_ns, _encoder.encode(state)) for key, state in requests],
                counters=self._counters,
                forget_spools_before_ns=now_ns - int(limits.forget_spool_after_s * 1e9),
                forget_requests_before_ns=self.foreign_since_ns(now_ns),
            )
            self._changed_spools.clear()
            self._changed_requests.clear()
            self._saved_seq = seq
            return seq

    # ---------------------------------------------------------------- questions of the intake

    def wanted(self, spool_id: str, start: int, end: int) -> list[tuple[int, int]]:
        """Which parts of an offered stretch of a spool are not here yet, in order."""
        with self._lock:
            return self._spool(spool_id).wanted(start, end)

    def acknowledged(self, spool_id: str, offset: int) -> int:
        """The first offset of a spool, from `offset` on, that is not yet durable."""
        with self._lock:
            return self._spool(spool_id).acknowledged(offset)

    def may_have_forgotten(self) -> bool:
        """Whether a damaged ledger was set aside lately, so that senders may repeat what it knew."""
        return self._clock_ns() < self._lost_ns + int(self._limits.doubt_s * 1e9)

    def foreign_since_ns(self, received_ns: int) -> int:
        """From when on a request of a sender without positions, come at a time, may have come before."""
        return received_ns - int(self._limits.foreign_dedupe_window_s * 1e9)

    def request(self, digest: str) -> RequestState | None:
        """What is durable of a foreign request that came within the dedupe window."""
        oldest_ns = self.foreign_since_ns(self._clock_ns())
        with self._lock:
            state = self._requests.get(digest)
            if state is None or state.received_ns < oldest_ns:
                return None
            return msgspec.structs.replace(state)

    # ---------------------------------------------------------------- questions of people

    def trace_status(self, records: Sequence[Record]) -> TraceStatus:
        """What is known of the processes that a trace's records came from."""
        if not records:
            return TraceStatus(foreign=True)
        start_ns = min(record.timestamp_ns for record in records)
        end_ns = max(record.end_ns for record in records)
        received_ns = max(record.received_ns for record in records)
        spool_ids = dict.fromkeys(_spool_id(record.uid) for record in records)
        settled = self._clock_ns() - received_ns > self._limits.settle_s * 1e9
        gaps: list[Gap] = []
        ended: dict[str, str] = {}
        open_since: list[int] = []
        foreign = False
        with self._lock:
            for spool_id in spool_ids:
                state = None if spool_id is None else self._spool(spool_id)
                if state is None or not state.is_known:
                    foreign = True
                    continue
                gaps += _gaps(state, start_ns, end_ns)
                if state.close is not None:
                    ended[state.spool_id] = state.close.ended
                elif not settled and state.last_written_ns < end_ns:
                    open_since.append(state.last_written_ns)
        return TraceStatus(
            gaps=gaps, open_since_ns=min(open_since, default=None), foreign=foreign, ended=ended
        )

    def spools(self, limit: int = 1000) -> list[dict[str, Any]]:
        """What arrived of each process and what is missing, those heard of last first."""
        with self._lock:
            saved = (_spool_decoder.decode(state) for state in self._file.spools(limit))
            states = {state.spool_id: state for state in saved} | dict(self._spools)
            known = (state for state in states.values() if state.is_known)
            newest = sorted(known, key=lambda state: state.last_received_ns, reverse=True)
            return [_view(state) for state in newest[:limit]]

    def stats(self) -> dict[str, int]:
        """Counts since the data directory was made: lines, refusals, losses; and what is remembered."""
        with self._lock:
            remembered = {
                "seq": self._seq,
                "saved_seq": self._saved_seq,
                "spools": self._file.spool_count(),
                "foreign_requests": len(self._requests),
                "set_aside": int(self._file.set_aside is not None),
            }
            return {**remembered, **self._counters}

    def close(self) -> None:
        """Let go of the file; what was not saved is in the log."""
        with self._lock:
            self._file.close()


def _spool_id(uid: str) -> str | None:
    head, dash, position = uid.partition("-")
    return head if dash and len(head) == _SPOOL_ID_CHARS and position.isdigit() else None


def _gaps(state: SpoolState, start_ns: int, end_ns: int) -> Iterable[Gap]:
    for hole in (*state.missing, *state.losses):
        if hole.may_touch(start_ns, end_ns):
            yield Gap(kind="lost", message=_sentence(state, hole), service=state.service, count=hole.count)


def _sentence(state: SpoolState, hole: Hole) -> str:
    who = f"{state.service}{f' (pid {state.pid})' if state.pid is not None else ''}"
    if hole.reason is not None:
        return f"{who} lost {hole.count if hole.count is not None else 'some'} lines: {hole.reason}"
    return f"{hole.end - hole.start} bytes that {who} wrote before offset {hole.end} never arrived"


def _view(state: SpoolState) -> dict[str, Any]:
    view: dict[str, Any] = msgspec.to_builtins(state)
    view.update(missing=msgspec.to_builtins(state.missing), losses=msgspec.to_builtins(state.losses))
    view["ended"] = state.close.ended if state.close else None
    return view
