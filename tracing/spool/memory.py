"""The part of a spool that no disk could take: lines in memory, with the same offsets as in a file."""

from __future__ import annotations

from collections import deque


class MemoryTail:
    """Lines after the last file's end. Not thread-safe: the incarnation's lock is.

    Attributes:
        first_offset: logical offset of the first line that is kept.
        bytes: what the lines take.
    """

    __slots__ = ("_lines", "bytes", "first_offset")

    def __init__(self, first_offset: int = 0) -> None:
        self.first_offset = first_offset
        self.bytes = 0
        self._lines: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._lines)

    def append(self, line: bytes) -> None:
        """Keep one more line."""
        self._lines.append(line)
        self.bytes += len(line)

    def all_lines(self) -> bytes:
        """Return what is kept as it would stand in a segment."""
        return b"".join(self._lines)

    def read(self, offset: int, bytes_max: int) -> bytes:
        """Return whole lines from `offset` on, which is the start of one.

        Args:
            bytes_max: where to stop; the first line is returned whatever its length.
        """
        picked: list[bytes] = []
        position, size = self.first_offset, 0
        for line in self._lines:
            if position >= offset:
                if picked and size + len(line) > bytes_max:
                    break
                picked.append(line)
                size += len(line)
            position += len(line)
        return b"".join(picked)

    def release(self, offset: int) -> None:
        """Forget the lines that end at or before `offset`."""
        while self._lines and self.first_offset + len(self._lines[0]) <= offset:
            line = self._lines.popleft()
            self.first_offset += len(line)
            self.bytes -= len(line)

    def clear(self, first_offset: int) -> None:
        """Forget everything; the next line will begin at `first_offset`."""
        self._lines.clear()
        self.bytes = 0
        self.first_offset = first_offset
