"""The files of a write-ahead log: `<first seq, 20 digits>.wal`, frames one behind the other.

Only this module touches the disk. Nothing here decides what is durable; `log.py` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from collector.wal.frames import Damage, WalFrame, scan

SUFFIX: Final = ".wal"
_BUFFERS_MAX: Final = 512  # of one `writev`; the system's own limit is 1 024 or more

# macOS has no fdatasync; fsync keeps the same promise.
_datasync = getattr(os, "fdatasync", os.fsync)


@dataclass(slots=True)
class Segment:
    """One file of the log, as far as it is known to be whole."""

    path: Path
    first_seq: int  # of the first frame in it, if there is one
    size: int  # bytes that count; what lies behind them was never acknowledged

    def frames(self, start: int = 0) -> Iterator[tuple[WalFrame, int] | Damage]:
        """Its frames from an offset on, as `scan` gives them.

        Raises:
            OSError: the file cannot be read.
        """
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield from scan(lambda offset, size: os.pread(fd, size, offset), start, self.size)
        finally:
            os.close(fd)


def find(directory: Path) -> list[Segment]:
    """The segments of a directory, oldest first; files that are not ours are passed over."""
    segments = []
    for path in directory.iterdir():
        if path.suffix == SUFFIX and path.stem.isascii() and path.stem.isdigit():
            with suppress(FileNotFoundError):  # released by the process that writes, while we look
                segments.append(Segment(path, int(path.stem), path.stat().st_size))
    return sorted(segments, key=lambda segment: segment.first_seq)


class SegmentWriter:
    """Appends to one new segment. Every method raises OSError when the disk does not do it."""

    def __init__(self, directory: Path, first_seq: int) -> None:
        """Create the file, and make its name durable. An empty one of that name is taken up."""
        path = directory / f"{first_seq:020d}{SUFFIX}"
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            sync_directory(directory)
        except OSError:
            os.close(self._fd)
            raise
        self.segment = Segment(path, first_seq, 0)

    def append(self, buffers: Sequence[bytes]) -> None:
        """Write and sync; afterwards `segment.size` includes the buffers, and they are durable."""
        written = _write_all(self._fd, buffers, self.segment.size)
        _datasync(self._fd)
        self.segment.size += written

    def cut_back(self) -> None:
        """Forget whatever lies behind `segment.size`, left there by an `append` that failed."""
        os.ftruncate(self._fd, self.segment.size)
        _datasync(self._fd)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def _write_all(fd: int, buffers: Sequence[bytes], offset: int) -> int:
    start = offset
    for at in range(0, len(buffers), _BUFFERS_MAX):
        pending = list(buffers[at : at + _BUFFERS_MAX])
        while pending:
            done = os.pwritev(fd, pending, offset)
            offset += done
            while pending and done >= len(pending[0]):
                done -= len(pending.pop(0))
            if pending and done:
                pending[0] = pending[0][done:]
    return offset - start


def sync_directory(directory: Path) -> None:
    """Make names that were created or renamed in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
