"""The write-ahead log: what it has taken is on disk before the sender hears of it.

Durable: `append` returns once every frame of the batch would survive a crash of the machine.
Whole: what a failed `append` left behind is cut away before anything else is written, so that a batch
the sender was told to keep is never read back beside its repetition.
Numbered: each line has a `seq`; the numbers rise for ever, across restarts and releases, and are never
used twice. A reader asks by number.
Forgiving: a torn tail and damaged bytes are passed over and counted; they never stop the start.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from collector.errors import Overloaded, Refused
from collector.wal.frames import HEAD, Cut, Damage, WalBatch, WalFrame, cut
from collector.wal.limits import WalLimits
from collector.wal.segments import Segment, SegmentWriter, find

# What `stats` counts since the log was opened.
COUNTERS: Final = (
    "appends",
    "syncs",  # fewer than appends: concurrent ones share a sync
    "overloaded",  # appends refused because the log or the disk was full
    "write_errors",  # the disk refused a write or a sync
    "torn_bytes",  # behind the last whole frame of a segment, as a crash leaves them
    "damaged_bytes",  # between whole frames
    "lost_records",  # numbers that are missing between two frames of a segment
    "read_errors",  # the disk refused a read
)


class _Pending:
    """One `append` waiting to be written."""

    __slots__ = ("cuts", "error", "last_seq", "size")

    def __init__(self, cuts: list[Cut]) -> None:
        self.cuts = cuts
        self.size = sum(HEAD.size + len(part.payload) for part in cuts)
        self.last_seq = 0
        self.error: Overloaded | None = None


class Wal:
    """A directory of segments. Any thread may call any method."""

    def __init__(
        self,
        directory: Path,
        *,
        limits: WalLimits,
        seq_after: int = 0,
        observer: Callable[[WalFrame], None] | None = None,
    ) -> None:
        """Use `open`."""
        self._directory = directory
        self._limits = limits
        self._observer = observer
        self._queue_lock = threading.Lock()  # guards `_queue`
        self._write_lock = threading.Lock()  # one thread writes, for everybody who is queued
        self._state_lock = threading.Lock()  # guards what readers see: `_segments`, sizes, counters
        self._grown = threading.Condition(self._state_lock)  # `_last_seq` rose, or somebody wants attention
        self._queue: list[_Pending] = []
        self._segments = find(directory)
        self._writer: SegmentWriter | None = None
        self._in_doubt = False  # the writer's file may hold more than `segment.size`
        self._closed = False
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._counted: set[tuple[str, int, int]] = set()  # damage that is in `_counts` already
        self._cursor = (0, 0, 0)  # (seq read up to, the segment's first seq, offset in it)
        self._last_seq, highest_seq = self._last_seqs()
        self._next_seq = max(seq_after, highest_seq) + 1

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        limits: WalLimits | None = None,
        seq_after: int = 0,
        observer: Callable[[WalFrame], None] | None = None,
    ) -> Wal:
        """Open the log in a directory, making it if need be.

        Args:
            directory: nobody else writes to it; the caller holds the lock on the data directory.
            limits: bounds; the defaults if `None`.
            seq_after: numbers given out are above it. Pass the highest number that the store and the
                ledger know, so that a log which lost its tail never gives a number twice.
            observer: is given each frame once it is durable, in the order of numbers and before
                `append` returns. It must not raise.
        Raises:
            OSError: the directory cannot be made or read.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(directory, limits=limits or WalLimits(), seq_after=seq_after, observer=observer)

    @property
    def last_seq(self) -> int:
        """The highest number that can be read; 0: the log is empty."""
        return self._last_seq

    def append(self, *batches: WalBatch) -> int:
        """Make batches durable, together or not at all; return the last line's number.

        Concurrent calls share one sync: whoever finds the log free writes for everybody who waits.

        Raises:
            Refused: `body_too_large`, it would never fit; cut into smaller ones it would.
            Overloaded: the log or the disk is full, or the disk refuses; nothing was taken.
        """
        limits = self._limits
        cuts = [part for batch in batches for part in cut(batch, frame_bytes_max=limits.frame_bytes_max)]
        item = _Pending(cuts)
        if item.size > limits.append_bytes_max:
            raise Refused(
                "body_too_large",
                f"the records of one request take {item.size} bytes in the write-ahead log and at most"
                f" {limits.append_bytes_max} ever fit; send fewer at once (wal_bytes_max {limits.bytes_max})",
            )
        with self._queue_lock:
            self._queue.append(item)
        with self._write_lock:
            if not item.last_seq and item.error is None:
                with self._queue_lock:
                    group, self._queue = self._queue, []
                self._write(group)
        if item.error is not None:
            raise item.error
        return item.last_seq

    def read(self, after_seq: int, records_max: int) -> list[WalFrame]:
        """Frames with numbers above `after_seq`, in order, until `records_max` lines are in hand.

        The first frame may begin at or below `after_seq`; its later lines are above. Only what is
        durable is seen. Empty: there is nothing more.
        """
        with self._state_lock:
            segments = [Segment(s.path, s.first_seq, s.size) for s in self._segments]
            seq, cursor_segment, offset = self._cursor
        frames: list[WalFrame] = []
        records = 0
        at = max(bisect_right([s.first_seq for s in segments], after_seq + 1) - 1, 0)
        for segment in segments[at:]:
            start = offset if (seq, cursor_segment) == (after_seq, segment.first_seq) else 0
            for frame, end in self._frames_of(segment, start):
                if frame.last_seq <= after_seq:
                    continue
                frames.append(frame)
                records += frame.count
                if records >= records_max:
                    with self._state_lock:
                        self._cursor = (frame.last_seq, segment.first_seq, end)
                    return frames
                seq, cursor_segment, offset = frame.last_seq, segment.first_seq, end
        if frames:
            with self._state_lock:
                self._cursor = (seq, cursor_segment, offset)
        return frames

    def wait_beyond(self, seq: int, timeout_s: float) -> bool:
        """Wait until a number above `seq` is durable, or `nudge` is called, or the time is over.

        Returns:
            Whether there is something to read after `seq`.
        """
        with self._grown:
            if self._last_seq <= seq:
                self._grown.wait(timeout_s)
            return self._last_seq > seq

    def nudge(self) -> None:
        """Make every `wait_beyond` that is under way return."""
        with self._grown:
            self._grown.notify_all()

    def releasable(self, durable_seq: int) -> bool:
        """Whether `release` would give space back."""
        with self._state_lock:
            return len(self._segments) > 1 and self._segments[1].first_seq <= durable_seq + 1

    def release(self, durable_seq: int) -> int:
        """Delete the segments whose every line is at or below `durable_seq`; return how many bytes.

        The newest segment stays: its name remembers which numbers were given out.
        """
        freed = 0
        with self._state_lock:
            while len(self._segments) > 1 and self._segments[1].first_seq <= durable_seq + 1:
                segment = self._segments.pop(0)
                segment.path.unlink(missing_ok=True)
                freed += segment.size
        return freed

    def stats(self) -> dict[str, int]:
        """Cheap: `last_seq`, `segments`, `bytes`, and a count for each of `COUNTERS`."""
        with self._state_lock:
            return {
                "last_seq": self._last_seq,
                "segments": len(self._segments),
                "bytes": sum(segment.size for segment in self._segments),
                **self._counts,
            }

    def close(self) -> None:
        """Let go of every file; appending afterwards raises `Overloaded`. Closing twice is harmless."""
        with self._write_lock:
            self._closed = True
            self._drop_writer()

    # ---------------------------------------------------------------- writing

    def _write(self, group: list[_Pending]) -> None:
        """Write what fits of a group; every member ends with a `last_seq` or an `error`."""
        taken: list[_Pending] = []
        reason = ""
        try:
            with self._state_lock:
                used = sum(segment.size for segment in self._segments)
            free = self._disk_free_bytes()
            for item in group:
                item.error = self._no_room_for(used + item.size, free)
                if item.error is None:
                    taken.append(item)
                    used += item.size
            if taken:
                self._write_durably(taken)
        except OSError as error:
            reason = f": {error}"
            self._give_up()
        finally:
            for item in group:
                if not item.last_seq and item.error is None:
                    item.error = self._overloaded(f"the write-ahead log cannot be written{reason}")
            with self._state_lock:
                self._counts["overloaded"] += sum(item.error is not None for item in group)

    def _write_durably(self, taken: list[_Pending]) -> None:
        writer = self._ready_writer()
        buffers: list[bytes] = []
        placed: list[WalFrame] = []
        last_seqs: list[int] = []
        next_seq = self._next_seq
        for item in taken:
            for part in item.cuts:
                buffers += part.at(next_seq)
                placed.append(part.placed(next_seq))
                next_seq += part.numbers
            last_seqs.append(next_seq - 1)
        self._in_doubt = True
        writer.append(buffers)
        self._in_doubt = False
        with self._state_lock:
            self._next_seq, self._last_seq = next_seq, next_seq - 1
            self._counts["appends"] += len(taken)
            self._counts["syncs"] += 1
            self._grown.notify_all()
        for item, last_seq in zip(taken, last_seqs, strict=True):
            item.last_seq = last_seq
        if self._observer is not None:
            for frame in placed:
                self._observer(frame)

    def _give_up(self) -> None:
        """Nothing of the group counts. The tail is cut away now, or before the next write."""
        with self._state_lock:
            self._counts["write_errors"] += 1
        try:
            self._settle_doubt()
        except OSError:
            pass  # `_ready_writer` tries again before it lets anybody write

    def _settle_doubt(self) -> None:
        """Cut away what a failed write left, and go on in a new file.

        After a failed sync the kernel may have dropped the pages and call the file clean, so this file
        is not trusted with another write. Source: PostgreSQL's "fsyncgate", 2018.
        """
        if self._in_doubt and self._writer is not None:
            self._writer.cut_back()
            self._in_doubt = False
            self._drop_writer()

    def _ready_writer(self) -> SegmentWriter:
        self._settle_doubt()
        if self._writer is not None and self._writer.segment.size >= self._limits.segment_bytes_max:
            self._drop_writer()
        if self._writer is None:
            self._writer = SegmentWriter(self._directory, self._next_seq)
            with self._state_lock:
                if self._segments and not self._segments[-1].size:
                    self._segments.pop()  # the same empty file, taken up again
                self._segments.append(self._writer.segment)
        return self._writer

    def _drop_writer(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def _disk_free_bytes(self) -> int:
        disk = os.statvfs(self._directory)
        return disk.f_bavail * disk.f_frsize

    def _no_room_for(self, bytes_after: int, free_bytes: int) -> Overloaded | None:
        limits = self._limits
        if self._closed:
            return self._overloaded("the collector is shutting down")
        if bytes_after > limits.bytes_max:
            return self._overloaded(
                f"the write-ahead log is full: {bytes_after} of {limits.bytes_max} bytes; "
                "the store does not keep up"
            )
        if free_bytes < limits.disk_free_bytes_min:
            return self._overloaded(
                f"the disk is nearly full: {free_bytes} bytes are free, "
                f"{limits.disk_free_bytes_min} are kept for the store"
            )
        return None

    def _overloaded(self, message: str) -> Overloaded:
        return Overloaded(message, retry_after_s=self._limits.retry_after_s)

    # ---------------------------------------------------------------- reading

    def _frames_of(self, segment: Segment, start: int) -> Iterator[tuple[WalFrame, int]]:
        """The whole frames of a segment; whatever else is in it is counted, once."""
        expected_seq, offset = 0, start
        try:
            for found in segment.frames(start):
                if isinstance(found, Damage):
                    self._count_once("damaged_bytes", segment, found.offset, found.size)
                    continue
                frame, end = found
                if expected_seq:
                    self._count_once("lost_records", segment, end, frame.first_seq - expected_seq)
                expected_seq, offset = frame.last_seq + 1, end
                yield frame, end
        except FileNotFoundError:
            return  # released since we looked, by the process that writes
        if self._writer is None or segment.path != self._writer.segment.path:
            self._count_once("torn_bytes", segment, offset, segment.size - offset)

    def _count_once(self, name: str, segment: Segment, offset: int, by: int) -> None:
        if by > 0 and (key := (name, segment.first_seq, offset)) not in self._counted:
            with self._state_lock:
                self._counted.add(key)
                self._counts[name] += by

    def _last_seqs(self) -> tuple[int, int]:
        """The highest number that can be read, and one that no number ever given out is above."""
        for segment in reversed(self._segments):
            last_seq, offset = segment.first_seq - 1, 0
            try:
                for frame, end in self._frames_of(segment, 0):
                    last_seq, offset = frame.last_seq, end
            except OSError:
                self._counts["read_errors"] += 1
            if segment is self._segments[-1]:
                # Each number takes more than one byte, so this passes every number that an unreadable
                # tail may have held.
                highest_seq = last_seq + segment.size - offset
            if offset:
                return last_seq, highest_seq
        return 0, highest_seq if self._segments else 0
