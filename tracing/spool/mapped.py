"""A segment as memory: a line is copied into a mapped file, without a system call.

What is copied is in the page cache, as after a `write`, and survives the process in the same way. Its
price is that a page which cannot be had is no error of a call but a SIGBUS that ends the process. So the
room is reserved on the disk before it is mapped (a sparse map on a full disk would be fatal), only file
systems are used whose reservations are known to hold, and before each copy the file is asked for its length,
because another program may have cut it (`truncate`, or a log rotation that copies and truncates).

What remains, and still ends the process: a cut that falls between that question and the end of the copy, some
100 ns; a file that root makes immutable (`chattr +i`) and a disk that the kernel makes read-only after an
error, since the next page cannot be had then. There is no way to take pages of a shared file into possession,
so the mode `write`, which meets all of these with an error, is the default.
"""

from __future__ import annotations

import mmap
import os
from os import SEEK_END, lseek
from pathlib import Path
from typing import Final

# Local, and a reserved block is one that can be written: not so with copy on write (btrfs, zfs), with a
# server behind it (nfs, fuse), or with an unknown file system underneath (overlay).
_TRUSTED: Final = frozenset({"ext2", "ext3", "ext4", "tmpfs", "xfs"})
_MOUNTS: Final = Path("/proc/self/mountinfo")


class MappedSegment:
    """The room of one segment file, mapped. Not thread-safe: the owner's lock is.

    Attributes:
        place: where in the file the next line goes.

    Raises:
        OSError: the disk has no such room, or mapping does not work here.
        ValueError: somebody cut the file while it was being mapped.
    """

    __slots__ = ("_map", "_size", "place")

    def __init__(self, fd: int, used_bytes: int, room_bytes: int) -> None:
        self._size = used_bytes + room_bytes
        os.posix_fallocate(fd, 0, self._size)
        self._map = mmap.mmap(fd, self._size)
        self.place = used_bytes

    def append(self, fd: int, line: bytes) -> int:
        """Copy a line to the end, as `os.write` would put it there.

        Returns:
            Its length, or 0: there is no room, or somebody has cut the file.
        Raises:
            OSError: the descriptor is closed.
        """
        size = len(line)
        # `lseek` moves nothing that matters (lines written are appended) and costs a third of an `fstat`.
        if lseek(fd, 0, SEEK_END) < self._size:
            return 0
        # The place is taken before the copy, and no call is in between: whoever interrupts us, which happens
        # after a call only, writes after us, not over us.
        start = self.place
        end = start + size
        if end > self._size:
            return 0
        self.place = end
        self._map[start:end] = line
        return size

    @property
    def room_bytes(self) -> int:
        """What is reserved and not written yet."""
        return self._size - self.place

    def is_cut(self, fd: int) -> bool:
        """Whether somebody has cut the file below what is mapped.

        Raises:
            OSError: the descriptor is closed.
        """
        return lseek(fd, 0, SEEK_END) < self._size

    def close(self) -> None:
        """Unmap; the file stays as it is."""
        self._map.close()


def is_mappable(path: Path) -> bool:
    """Whether files under a path may be mapped: a local file system that is known to be good.

    Args:
        path: need not exist yet.
    """
    try:
        while not path.exists() and path != path.parent:
            path = path.parent
        device = path.stat().st_dev
        numbers = f"{os.major(device)}:{os.minor(device)}"
        for line in _MOUNTS.read_text().splitlines():
            # "36 35 98:0 /root /mount/point options … - type source options" (proc(5), mountinfo)
            before, _, after = line.partition(" - ")
            if before.split()[2] == numbers:
                return after.split()[0] in _TRUSTED
    except (OSError, IndexError, AttributeError):
        pass  # no such table on this system, or not in this form
    return False
