"""One process's life in the spool: takes lines, decides where they go, and says what it could not take.

A line goes the short way (one lock, one `os.write`) unless something is to be decided. That is found out
by one comparison: `act_at`, the logical offset from which on `_carefully` is asked, is -1 while nothing
is open yet, while lines are kept in memory, while some are shed, and while a decision is being made.

The lock is re-entrant because a signal handler or a `__del__` may log while this very thread writes.
Python runs those only after a call has returned (never in the middle of `position += n`), so the short
way needs no more; on the long way such a line waits in `_deferred` until the decision is made.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from tracing import forks
from tracing import semconv as sc
from tracing.spool import locks
from tracing.spool.directory import OwnDirectory
from tracing.spool.format import SegmentHeader, close_line, loss_line, new_spool_id, service_directory
from tracing.spool.home import DescriptorLost, Home
from tracing.spool.limits import SpoolLimits
from tracing.spool.losses import KEEP_ALL, KEEP_NONE, Losses, severity_floor
from tracing.spool.memory import MemoryTail
from tracing.spool.reader import whole_lines
from tracing.spool.untold import keep_untold
from tracing.spool.usage import ServiceUsage, free_bytes

# How many bytes go the short way before the long way looks at bounds, disk and directory again:
# 200 records, so that its 10 µs are 50 ns for each.
STEP_BYTES: Final = 65_536
ALWAYS: Final = -1
RESUMED_MAX: Final = 64  # cuts that nobody has read up to yet; of older ones the loss would be told twice


class Incarnation:
    """The spool of one process between two forks.

    Attributes:
        mine: `mine[0]` is 1 where lines may be written in the ordinary way: not after a fork, nor the end.
        born_pid: process that it belongs to.
        spool_id: its identity, 32 hex.
        position: logical offset after the last line taken.
        lines: how many lines were taken.
        severity_min: OpenTelemetry severity number below which lines are shed at present.
        resumed_at: offsets at which a new segment follows one that somebody cut; that loss is noted.
    """

    def __init__(
        self,
        root: Path,
        *,
        service: str,
        resource: Mapping[str, Any],
        limits: SpoolLimits,
        home: Home,
        parent: Mapping[str, Any] | None = None,
    ) -> None:
        self.mine = forks.mark()
        self.born_pid = os.getpid()
        self.spool_id = new_spool_id()
        self.service = service
        self.position = 0
        self.lines = 0
        self.severity_min = KEEP_ALL
        self.lock = threading.RLock()
        self.memory = MemoryTail()
        self.losses = Losses(limits.loss_interval_s)
        self.directory: OwnDirectory | None = None
        self.ended: str | None = None
        self.memory_lines_total = 0
        self.resumed_at: deque[int] = deque(maxlen=RESUMED_MAX)
        self._service_path = service_directory(root, service)
        self._home = home
        self._resource = {**resource, sc.PROCESS_PID: self.born_pid}
        self._limits = limits
        self._parent = parent
        self._step_bytes = min(STEP_BYTES, limits.segment_bytes_max // 4, limits.service_bytes_max // 32)
        self._write: Callable[[int, bytes], int] = os.write  # the directory's own, once there is one
        self._fd = -1
        self._act_at = ALWAYS
        self._closed_at = 0  # offset after the last close line; a process that said nothing has none
        self._usage = ServiceUsage(self._service_path, self.spool_id, limits.recheck_interval_s)
        self._step_at = 0  # offset, and
        self._look_at_s = 0.0  # time of `time.monotonic`, at which to look at everything again
        self._busy = False
        self._is_left = False
        self._deferred: deque[Callable[[], None]] = deque()

    @property
    def is_on_disk(self) -> bool:
        """Whether lines go to a file at present, not to memory."""
        return self.directory is not None and self.directory.fd >= 0

    def write(self, line: bytes, severity_number: int) -> None:
        """Take one line, newline included. Raises nothing; every record of the program comes through here."""
        try:
            if not self.mine[0]:
                self._home.write_elsewhere(self, line, severity_number)
                return
            lock = self.lock
            lock.acquire()  # as `with` does it, for two thirds of the price
            try:
                if self.position >= self._act_at:
                    self._carefully(line, severity_number)
                    return
                try:
                    written = self._write(self._fd, line)
                except OSError:
                    written = 0
                if written == len(line):
                    self.position += written
                    self.lines += 1
                else:
                    self._decided(partial(self._recover, line, severity_number))
            finally:
                lock.release()
        except DescriptorLost:
            self.disown()
            self._home.write_elsewhere(self, line, severity_number)
        except Exception as error:
            self._home.failed(error)

    def disown(self) -> None:
        """Take no line in the ordinary way any more."""
        self.mine = forks.NOBODYS

    def write_late(self, line: bytes, severity_number: int) -> None:
        """Take a line after the close line: from other exit handlers, and while the interpreter ends.

        Without the lock, since a thread that held it may have been stopped for good by then. One `write`
        to the end of the file is whole and in its place without it, and nothing is decided any more.

        Raises:
            OSError: the disk did not take it.
        """
        if self.is_on_disk:
            os.write(self._fd, line)
            self.position += len(line)
            self.lines += 1
        else:
            with self.lock:
                self._carefully(line, severity_number)
            self.close("exit")

    def close(self, ended: str) -> None:
        """Write the line that says how the process ends, unless nothing was logged since the last one."""
        with self.lock:
            if self._is_left:
                return
            if self._busy:
                self._deferred.append(partial(self.close, ended))
                return
            self.ended = ended
            if self.position != self._closed_at or self.losses.is_any_pending:
                self._decided(partial(self._close, ended))
            if ended == "exit":
                self.disown()  # from now on `write_late`

    def leave(self) -> None:
        """Give the directory up to whoever adopts it; afterwards no line may be written here."""
        with self.lock:
            self.disown()
            self._is_left = True
            self._fd, self._act_at = -1, ALWAYS
            if self.directory is not None:
                self.directory.leave()

    def forget(self) -> None:
        """In a forked child: close what was inherited. The lock may be held by a thread that is not here."""
        if self.directory is not None:
            self.directory.leave()

    def header_line(self) -> bytes:
        """Return the header under which lines in memory travel."""
        return self._header(self.memory.first_offset, self.lines - len(self.memory)).encode()

    def note_loss(self, reason: str, count: int, begin: int, end: int) -> None:
        """Count records that are missing, and have a loss line say so."""
        with self.lock:
            self._note(reason, count, begin, end)

    def note_thinned(self, count: int) -> None:
        """Count records that were given up to make room; their loss lines are in their places."""
        with self.lock:
            self.losses.totals["thinned"] += count

    def measure(self) -> None:
        """See how near the bound is, after files were deleted."""
        with self.lock:
            self._measure()

    def turn_over(self, bytes_min: int) -> None:
        """Begin a new segment if the current one has at least so many bytes, so that it can be deleted."""
        with self.lock:
            if self._busy or self.ended is not None or not self.is_on_disk:
                return
            assert self.directory is not None
            if self.position - self.directory.header.first_offset >= bytes_min:
                self._decided(self._next_segment)

    def look_again(self) -> None:
        """Decide anew about disk, bounds and losses; the shipper calls it now and then."""
        with self.lock:
            if not self._busy and self.ended is None and (self.position or self.losses.is_any_pending):
                try:
                    self._decided(self._look_again)
                except DescriptorLost:
                    self.disown()  # the next line begins another one

    # ---- the long way; the lock is held ----

    def _carefully(self, line: bytes, severity_number: int) -> None:
        if self._is_left:
            raise DescriptorLost
        if self._busy:
            self._deferred.append(partial(self.write, line, severity_number))
        else:
            self._decided(partial(self._decide_and_take, line, severity_number))

    def _decided(self, action: Callable[[], None]) -> None:
        """Run an action while every other line of this thread waits, then let those lines go on."""
        self._busy, self._act_at = True, ALWAYS
        try:
            action()
        finally:
            if self.directory is not None:
                self._fd, self._write = self.directory.fd, self.directory.write
            self._act_at = ALWAYS if self._fd < 0 or self.severity_min > KEEP_ALL else self._step_at
            self._busy = False
            while self._deferred:
                self._deferred.popleft()()

    def _decide_and_take(self, line: bytes, severity_number: int) -> None:
        if time.monotonic() >= self._look_at_s or (self.is_on_disk and self.position >= self._step_at):
            self._look_again()
        self._settle_bounds()
        if severity_number < self.severity_min:
            reason = "over_bound" if self.is_on_disk else "memory_full"
            self._note(reason, 1, self.position, self.position)
            self._write_losses()
        else:
            self._append(line)

    def _recover(self, line: bytes, severity_number: int) -> None:
        self._give_way()
        self._decide_and_take(line, severity_number)

    def _close(self, ended: str) -> None:
        self._look_again()
        self._write_losses(all_of_them=True)
        self._append(
            close_line(self.service, time.time_ns(), count=self.lines, end_offset=self.position, ended=ended)
        )
        self._closed_at = self.position
        if not self.is_on_disk:
            self._look_again()  # the last chance of what is in memory: a new segment may have room
        if self.directory is not None:
            self.directory.unmap()

    def _look_again(self) -> None:
        """Look at the disk, the directory and the bounds, and act on what is found."""
        self._look_at_s = time.monotonic() + self._limits.recheck_interval_s
        try:
            if self.directory is None or self.directory.fd < 0:
                self._to_disk()
            else:
                self._look_after(self.directory)
        except OSError:
            pass  # as before: in memory, or in a segment that grows beyond its size
        self._settle_bounds()
        self._write_losses()
        self._step_at = self.position + self._step_bytes

    def _look_after(self, directory: OwnDirectory) -> None:
        if not directory.is_descriptor_ours:
            raise DescriptorLost
        if not directory.is_in_place or not directory.is_segment_in_place:
            self._restore(directory)
        elif directory.is_cut or directory.end_offset() < self.position:
            self._note_cut(directory)
            self._to_memory()
            self._to_disk()
        elif free_bytes(directory.fd) < self._limits.disk_free_bytes_min:
            self._to_memory()
        elif self.position - directory.header.first_offset >= self._limits.segment_bytes_max:
            self._next_segment()

    def _note_cut(self, directory: OwnDirectory) -> None:
        """Somebody has cut the file: what stood behind the cut is gone."""
        end_offset = directory.end_offset()
        if end_offset < self.position:
            count = self.lines - directory.header.first_line - directory.lines_left()
            self._note("deleted", count, end_offset, self.position)
            self.resumed_at.append(self.position)

    def _next_segment(self) -> None:
        assert self.directory is not None
        try:
            self.directory.begin_segment(self._header(self.position, self.lines))
        except OSError:
            pass  # the current one grows beyond its size

    def _to_disk(self) -> None:
        """Open a segment, with what is in memory at its beginning."""
        if not locks.AVAILABLE:
            return  # nobody could tell whether we live: what is on disk might be adopted, or never be
        if free_bytes(self._service_path) < self._limits.disk_free_bytes_min:
            return
        header = self._header(self.memory.first_offset, self.lines - len(self.memory))
        lines = self.memory.all_lines()
        if self.directory is not None and self.directory.is_in_place:
            self.directory.begin_segment(header, lines)
        else:
            self._make_directory(header, lines)
        self.memory.clear(self.position)

    def _to_memory(self, first_offset: int | None = None, lines: bytes = b"") -> None:
        """Keep lines in memory from now on, behind those given, which begin at `first_offset`."""
        assert self.directory is not None
        self.directory.pause()
        self.memory.clear(self.position if first_offset is None else first_offset)
        for line in whole_lines(lines):
            self.memory.append(line)

    def _restore(self, directory: OwnDirectory) -> None:
        """Somebody deleted our files: write again what the current segment held, and say what is lost."""
        header, lines = directory.header, directory.lines_of_current()
        if directory.is_in_place:
            directory.begin_segment(header, lines)
            return
        try:
            self._make_directory(header, lines)
        except OSError:  # what is written to files without a name is read by nobody
            self._to_memory(header.first_offset, lines)
        if header.first_line:
            # How much of it had been sent only the collector knows; this is the most it can be.
            self._note("deleted", header.first_line, 0, header.first_offset)

    def _make_directory(self, header: SegmentHeader, lines: bytes) -> None:
        made = OwnDirectory.create(self._service_path, header, self._limits, lines)
        if self.directory is not None:
            self.directory.leave()
        self.directory = made
        self._measure()

    def _header(self, first_offset: int, first_line: int) -> SegmentHeader:
        return SegmentHeader(
            spool_id=self.spool_id,
            segment=self.directory.header.segment + 1 if self.directory else 0,
            first_offset=first_offset,
            first_line=first_line,
            resource=self._resource,
            parent=self._parent,
        )

    def _settle_bounds(self) -> None:
        if not self.is_on_disk:
            self.severity_min = severity_floor(self.memory.bytes, self._limits.memory_bytes_max)
            return
        bytes_max = self._limits.service_bytes_max
        self.severity_min = severity_floor(self._usage.bytes(self.position), bytes_max)
        if self.severity_min > KEEP_ALL and self._usage.is_old:
            # Whoever ships may have deleted since, in this process or in another one.
            self._measure()
            self.severity_min = severity_floor(self._usage.bytes(self.position), bytes_max)

    def _measure(self) -> None:
        room_bytes = 0 if self.directory is None else self.directory.room_bytes
        self._usage.measure(self.position, room_bytes)

    def _note(self, reason: str, count: int, begin: int, end: int) -> None:
        self.losses.note(reason, count, begin, end)
        self._keep_untold()

    def _keep_untold(self) -> None:
        """Have what no loss line says yet survive this process."""
        if self.directory is not None:
            try:
                keep_untold(self.directory.path, self.losses.pending())
            except OSError:
                pass  # no room, or the directory is being made again: the loss line will say it all the same

    def _write_losses(self, *, all_of_them: bool = False) -> None:
        now_s = time.monotonic()
        is_full = self.severity_min == KEEP_NONE
        losses = self.losses.take_all(now_s) if all_of_them else self.losses.take_due(now_s, is_full=is_full)
        for loss in losses:
            self._append(
                loss_line(
                    self.service,
                    time.time_ns(),
                    reason=loss.reason,
                    count=loss.count,
                    begin=loss.begin,
                    end=loss.end,
                )
            )
        if losses:  # only now: told twice is found out by who adopts this, told never is not
            self._keep_untold()

    def _append(self, line: bytes) -> None:
        """Put a line where lines go at present, whatever its severity."""
        if self.is_on_disk:
            assert self.directory is not None
            try:
                written = self.directory.write(self.directory.fd, line)
            except OSError:
                written = 0
            if written != len(line):
                self._give_way()
        if not self.is_on_disk:
            self.memory.append(line)
            self.memory_lines_total += 1
        self.position += len(line)
        self.lines += 1

    def _give_way(self) -> None:
        """The disk did not take a line, or a part only: take that part back and go on in memory.

        Raises:
            DescriptorLost: it is not the disk's fault.
        """
        directory = self.directory
        if directory is None or not directory.is_descriptor_ours:
            raise DescriptorLost
        if directory.is_cut:
            self._note_cut(directory)
            self._look_at_s = 0.0  # the disk is not full: a new segment will do
        try:
            directory.cut_at(self.position)
        except OSError:
            pass  # readers end at the last newline, and a part of a line has none
        self._to_memory()
