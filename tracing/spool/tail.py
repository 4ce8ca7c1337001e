"""The end of a dead spool: what its owner could not write there, its adopter writes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tracing.spool.format import has_close_line, service_of, tells_loss
from tracing.spool.losses import Loss
from tracing.spool.reader import Segment, end_offset, open_segment, segment_paths


class Tail:
    """The last segment of a dead spool, open so that lines can be added to its end.

    Attributes:
        service: whose it is.
        lines: number of lines in the spool.
        end_offset: logical offset after the last whole line.
        is_closed: whether there is a close line among the last segment's lines.
        modified_ns: time of the last write, epoch nanoseconds: when the owner was last seen alive.
    """

    def __init__(self, segment: Segment) -> None:
        self._fd = os.open(segment.path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        status = os.fstat(self._fd)
        data = os.pread(self._fd, status.st_size, 0).rstrip(b"\0")
        self._end_place = data.rfind(b"\n") + 1
        data = data[segment.header_bytes : self._end_place]
        self.service = service_of(segment.header, segment.path.parent)
        self.lines = segment.header.first_line + data.count(b"\n")
        self.end_offset = end_offset(segment.header, data)
        self.is_closed = has_close_line(data)
        self._data = data
        self.modified_ns = status.st_mtime_ns

    @classmethod
    def open(cls, path: Path) -> Tail | None:
        """Open the end of a spool; `None` when it has no segment that can be understood."""
        paths = segment_paths(path)
        segment = open_segment(paths[-1]) if paths else None
        if segment is None:
            return None
        segment.close()
        return cls(segment)

    def tells(self, loss: Loss) -> bool:
        """Whether a loss line in the last segment says this very loss."""
        return tells_loss(self._data, loss.reason, loss.count, loss.begin, loss.end)

    def append(self, line: bytes) -> None:
        """Put a line after the last whole one, over a torn one, whose call never returned.

        Nothing is cut off: what is left of a torn line has no newline, so nobody reads it, and a file that
        is still mapped by an owner that lost its lock must not become shorter under its hands.

        Raises:
            OSError: it could not be written whole.
        """
        if os.pwrite(self._fd, line, self._end_place) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._end_place += len(line)
        self.end_offset += len(line)
        self.lines += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
