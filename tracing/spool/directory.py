"""The directory of a living incarnation: how it is made, how its segments follow each other."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tracing.line import LINE_BYTES_MAX
from tracing.spool.format import LOCK_FILE, SENT_FILE, SHIPPER_FILE, SegmentHeader, segment_name, sent_text
from tracing.spool.limits import SpoolLimits
from tracing.spool.locks import ProcessLock, close_quietly, is_same_file, try_lock
from tracing.spool.mapped import MappedSegment, is_mappable

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
# A segment is ended when it is seen to be long enough, which is every 64 KiB; the longest line may follow.
MAPPED_SLACK_BYTES: Final = 65_536 + LINE_BYTES_MAX + 1
UNFINISHED_PREFIX: Final = ".new-"  # of a directory that has no lock yet, so that nobody takes it for dead

# O_APPEND: wherever a descriptor was inherited to, a line ends up whole and at the end.
_SEGMENT_FLAGS: Final = (
    os.O_RDWR
    | os.O_APPEND
    | os.O_CREAT
    | os.O_TRUNC
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class OwnDirectory:
    """Directory, life lock and current segment of one incarnation. Not thread-safe: the owner's lock is.

    Attributes:
        path: the directory, named by the spool id.
        header: of the current segment.
        fd: descriptor of the current segment, open for appending; -1 when `pause` has closed it.
        write: puts one line at the end of the current segment; called as `os.write` is.
    """

    def __init__(self, path: Path, lock: ProcessLock, header: SegmentHeader, limits: SpoolLimits) -> None:
        self.path = path
        self.header = header
        self.fd = -1
        self._plain_write: Callable[[int, bytes], int] = _write_and_sync if limits.fsync else os.write
        self.write: Callable[[int, bytes], int] = self._plain_write
        self._room_bytes = 0
        if limits.mode == "mapped" and not limits.fsync and is_mappable(path):
            self._room_bytes = limits.segment_bytes_max + MAPPED_SLACK_BYTES
        self._mapped: MappedSegment | None = None
        self._pid = os.getpid()
        self._lock = lock
        self._identity = (0, 0)
        self._header_bytes = 0

    @classmethod
    def create(
        cls, service: Path, header: SegmentHeader, limits: SpoolLimits, lines: bytes = b""
    ) -> OwnDirectory:
        """Make the directory with its locks and first segment, and only then let others see it.

        Args:
            service: the directory of the service; it and the one above it are made when absent.
            lines: what the first segment begins with.
        Raises:
            OSError: some part could not be made; nothing is left behind that others would take.
        """
        service.parent.parent.mkdir(parents=True, exist_ok=True)
        for directory in (service.parent, service):
            directory.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        unfinished = service / f"{UNFINISHED_PREFIX}{header.spool_id}"
        unfinished.mkdir(mode=DIRECTORY_MODE)
        lock = own = None
        try:
            lock = try_lock(unfinished / LOCK_FILE, create=True)
            if lock is None:
                raise OSError(errno.ENOLCK, "record locks do not work here", str(service))
            write_new(unfinished / SHIPPER_FILE, b"")
            write_new(unfinished / SENT_FILE, sent_text(header.first_offset))
            own = cls(unfinished, lock, header, limits)
            own.begin_segment(header, lines)
            own.path = service / header.spool_id
            unfinished.rename(own.path)
        except BaseException:
            if own is not None:
                own.pause()
            for name in (segment_name(header.segment), SENT_FILE, SHIPPER_FILE, LOCK_FILE):
                (unfinished / name).unlink(missing_ok=True)
            if lock is not None:
                lock.release()
            unfinished.rmdir()
            raise
        return own

    def begin_segment(self, header: SegmentHeader, lines: bytes = b"") -> None:
        """Open the next segment and make it the current one.

        Raises:
            OSError: it could not be written whole; the current one is as it was.
        """
        path = self.path / segment_name(header.segment)
        first = header.encode()
        fd = os.open(path, _SEGMENT_FLAGS, FILE_MODE)
        mapped = None
        try:
            write_whole(fd, first + lines)
            if self._room_bytes:
                mapped = _mapped(fd, len(first) + len(lines), self._room_bytes)
            status = os.fstat(fd)
        except BaseException:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        self.pause()
        self._mapped, self.write = mapped, self._plain_write if mapped is None else mapped.append
        self.header, self._header_bytes = header, len(first)
        self.fd, self._identity = fd, (status.st_dev, status.st_ino)

    def end_offset(self) -> int:
        """Return the logical offset after the last byte of the current segment, from the file itself."""
        return self.header.first_offset + self._end_place() - self._header_bytes

    def cut_at(self, offset: int) -> None:
        """Cut the current segment at a logical offset: a line that was not written whole was not taken."""
        if self._mapped is None:  # a mapped line is there, or it is not
            os.ftruncate(self.fd, self._header_bytes + offset - self.header.first_offset)

    def lines_of_current(self) -> bytes:
        """Read back what the current segment holds, also when somebody has unlinked it."""
        return os.pread(self.fd, self._end_place() - self._header_bytes, self._header_bytes)

    @property
    def room_bytes(self) -> int:
        """What the current segment has reserved for lines to come; they will take it, not add to it."""
        return 0 if self._mapped is None else self._mapped.room_bytes

    @property
    def is_cut(self) -> bool:
        """Whether the current segment is mapped, and somebody has taken away from its end."""
        return self._mapped is not None and self._mapped.is_cut(self.fd)

    def lines_left(self) -> int:
        """Return how many lines of the current segment are still there after somebody has cut it.

        Without a map there may be lines behind the cut that are in no place of theirs: none counts then.
        """
        return 0 if self._mapped is None else self.lines_of_current().count(b"\n")

    def _end_place(self) -> int:
        """Where the lines of the current segment end; not before the header's end, cut or not."""
        size = os.fstat(self.fd).st_size
        return max(self._header_bytes, size if self._mapped is None else min(size, self._mapped.place))

    @property
    def is_descriptor_ours(self) -> bool:
        """Whether nobody has closed the current segment's descriptor behind our back."""
        return is_same_file(self.fd, self._identity)

    @property
    def is_in_place(self) -> bool:
        """Whether the directory and its life lock are still where others find them."""
        return self._lock.is_at(self.path / LOCK_FILE)

    @property
    def is_segment_in_place(self) -> bool:
        """Whether the current segment still has a name."""
        return os.fstat(self.fd).st_nlink > 0

    def pause(self) -> None:
        """Close the current segment; the directory and its lock stay ours. Safe in a forked child."""
        self.unmap()
        if self.fd >= 0 and self.is_descriptor_ours:
            close_quietly(self.fd)
        self.fd = -1

    def unmap(self) -> None:
        """Go on with `os.write` in the current segment. Safe in a forked child."""
        mapped, self._mapped = self._mapped, None
        if mapped is None:
            return
        mapped.close()
        self.write = self._plain_write
        if self._pid == os.getpid() and self.is_descriptor_ours:  # a child would cut its parent's file
            _give_room_back(self.fd, mapped.place)

    def leave(self) -> None:
        """Close all that is open, so that others may adopt the directory. Safe in a forked child."""
        self.pause()
        self._lock.release()


def write_whole(fd: int, data: bytes) -> None:
    """Write all of it.

    Raises:
        OSError: the disk is full, or the file may not grow.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _write_and_sync(fd: int, line: bytes) -> int:
    written = os.write(fd, line)
    os.fdatasync(fd)
    return written


def _mapped(fd: int, used_bytes: int, room_bytes: int) -> MappedSegment | None:
    """Map a segment; `None` when the disk has no room for all of it, where a line may still fit."""
    try:
        return MappedSegment(fd, used_bytes, room_bytes)
    except (OSError, ValueError):
        _give_room_back(fd, used_bytes)
        return None


def _give_room_back(fd: int, size: int) -> None:
    try:
        if os.fstat(fd).st_size > size:  # else somebody has cut it, and this would fill it up with NULs
            os.ftruncate(fd, size)
    except OSError:
        pass  # readers end at the last newline, whatever follows


def write_new(path: Path, content: bytes) -> None:
    """Make a file for the owner's eyes only.

    Raises:
        OSError: it is there already, or could not be written whole.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        write_whole(fd, content)
    finally:
        os.close(fd)
