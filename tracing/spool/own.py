"""The spool of this very process as something to ship: read while it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tracing.spool.adoption import delete_before, write_sent
from tracing.spool.format import SHIPPER_FILE
from tracing.spool.incarnation import Incarnation
from tracing.spool.locks import ProcessLock, try_lock
from tracing.spool.losses import KEEP_ALL, KEEP_WARN
from tracing.spool.reader import Batch, Hole, SpoolReader, segment_paths, sent_offset
from tracing.spool.thinning import thin

# A segment that is sent whole is ended when it has this size, long before it is full: with a hundred
# workers, what they keep for nothing would else be most of the service's bound.
SENT_SEGMENT_BYTES: Final = 262_144
# Segments that one look at the bounds writes again: some 50 ms of this thread for each.
THIN_SEGMENTS_MAX: Final = 2


class OwnSource:
    """An incarnation's lines, files first, then what is in memory. For one thread, the shipper's.

    Attributes:
        own: the incarnation.
        sent: logical offset up to which everything is acknowledged.
    """

    def __init__(self, own: Incarnation) -> None:
        self.own = own
        self.sent = 0
        self._lock: ProcessLock | None = None
        self._reader: SpoolReader | None = None
        self._deleted_to = 0
        self._thinned: dict[Path, int] = {}  # the severity below which a segment has nothing left

    def read(self, bytes_max: int) -> Batch | None:
        """Return the next lines to send; `None`: all is sent, or somebody else is sending them."""
        while self.sent < self.own.position:
            with self.own.lock:
                directory = self.own.directory
                kept = self.own.memory
                if len(kept) and self.sent < kept.first_offset and directory and not directory.is_in_place:
                    self.sent = kept.first_offset  # the files before are gone, which is noted
                if len(kept) and self.sent >= kept.first_offset:
                    data = kept.read(self.sent, bytes_max)
                    header = self.own.header_line()
                    return Batch(header, self.own.spool_id, self.sent, data) if data else None
            if directory is None or not self._may_ship(directory.path):
                return None
            self._reader = self._reader or SpoolReader(directory.path)
            found = self._reader.read(self.sent, bytes_max)
            if isinstance(found, Hole):
                with self.own.lock:  # in a mapped segment, a line that is just being copied looks like a hole
                    found = self._reader.read(self.sent, bytes_max)
            if not isinstance(found, Hole):
                return found
            # Of what is deleted or cut, the incarnation itself takes note.
            if found.reason != "deleted" and found.end not in self.own.resumed_at:
                self.lose(found.reason, 1, found.begin, found.end)
            self.acknowledge(found.end)
        return None

    def acknowledge(self, offset: int) -> None:
        """Write down that everything before an offset need not be sent again."""
        self.sent = offset
        with self.own.lock:
            self.own.memory.release(offset)
            directory = self.own.directory
        if directory is not None:
            write_sent(directory.path, offset)

    def lose(self, reason: str, count: int, begin: int, end: int) -> None:
        """Have the incarnation write a loss line."""
        self.own.note_loss(reason, count, begin, end)

    def tidy(self) -> None:
        """Delete the segments that are sent, and have the incarnation look at its bounds again."""
        directory = self.own.directory
        if directory is not None and self._lock is not None:
            if self.sent >= self.own.position:
                self.own.turn_over(SENT_SEGMENT_BYTES)
            current_offset = directory.header.first_offset
            if self._deleted_to < current_offset and self._deleted_to < self.sent:
                delete_before(directory.path, self.sent)
                self._deleted_to = min(current_offset, self.sent)
                self.own.measure()
            if self.own.severity_min > KEEP_ALL:
                self._thin(directory.path, min(self.own.severity_min, KEEP_WARN))
        self.own.look_again()

    def close(self) -> None:
        """Let others ship this spool."""
        if self._reader is not None:
            self._reader.close()
        if self._lock is not None:
            self._lock.release()
        self._reader = self._lock = None

    def _thin(self, path: Path, severity_min: int) -> None:
        """Write closed segments again without what is no longer taken either, a few at a time."""
        closed = segment_paths(path)[:-1]
        self._thinned = {segment: self._thinned.get(segment, KEEP_ALL) for segment in closed}
        unthinned = [segment for segment in closed if self._thinned[segment] < severity_min]
        for segment in unthinned[:THIN_SEGMENTS_MAX]:
            if self._reader is not None:
                self._reader.close()  # or it would go on with what has just been given up
            thinned = thin(segment, severity_min, begin=self.sent)
            self._thinned[segment] = severity_min
            self.own.note_thinned(thinned.lost_lines)
        if unthinned:
            self.own.measure()

    def _may_ship(self, path: Path) -> bool:
        """Whether we have the right to ship; else take over how far the one who has it got."""
        if self._lock is not None and not self._lock.is_at(path / SHIPPER_FILE):
            self.close()  # the directory was deleted and made again
        if self._lock is None:
            self._lock = try_lock(path / SHIPPER_FILE)
        self.sent = max(self.sent, sent_offset(path) or 0)
        return self._lock is not None
