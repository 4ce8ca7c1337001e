"""Whether this is still the process that it was: a page of memory that a fork empties.

`os.getpid()` answers that as well, by a system call that each record would pay (0.2 µs, a tenth of what we
add to a log call). Python's fork hooks do not answer it: servers written in C fork without them. The kernel
empties a page with `MADV_WIPEONFORK` in every child, however that was forked, and reading it costs 20 ns.

Source: madvise(2), since Linux 4.14; BoringSSL and glibc know forks by it.
"""

from __future__ import annotations

import mmap
import os
from typing import Final, Protocol

_WIPE_ON_FORK: Final = 18  # `MADV_WIPEONFORK`, which the module `mmap` has no name for
_NO_ADVICE: Final = -1  # what answers this with success (an emulator) takes no advice


class Mark(Protocol):
    """`mark[0]` is 1 in the process that made the mark, and 0 in all others."""

    def __getitem__(self, place: int, /) -> int:
        """Return 1 or 0."""
        ...


NOBODYS: Final[Mark] = b"\0"


class _ById:
    """A mark where the kernel has none: by process id."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, place: int, /) -> int:
        return int(self._pid == os.getpid())


def mark() -> Mark:
    """Make a mark for this process."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (AttributeError, OSError, ValueError):  # not Linux, or an old one
        return _ById()
    try:
        page.madvise(_NO_ADVICE)
    except OSError:
        page[0] = 1
        return page
    return _ById()
