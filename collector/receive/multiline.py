"""Lines of a log file -> records of one or more lines: tracebacks stay with what announced them. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

# What goes on with the record before it: indented lines, and what Python and Java print between frames.
_CONTINUES: Final = re.compile(
    rb"[ \t]"
    rb"|Traceback \(most recent call last\):"
    rb"|(?:During handling of the above|The above exception was the direct cause)"
    rb"|Caused by: |\.\.\. \d+ more"
)
# An exception group draws a margin; the line that names the exception is inside it.
_MARGIN: Final = re.compile(rb"[ \t]+[|+]")
_TRACEBACK: Final = b"Traceback (most recent call last):"


class Grouped(msgspec.Struct, frozen=True):
    """One record's lines."""

    start: int  # byte offset of the first line
    end: int  # byte offset behind the last one
    text: bytes  # without the last newline


class Grouper:
    """Puts lines together as they come.

    Args:
        bytes_max: longest record; a longer one is cut into several.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lines: list[bytes] = []
        self._start = self._end = self._size = 0
        self._in_traceback = False  # one has begun in this record
        self._expects_exception = False  # a frame of it was the last line

    @property
    def is_open(self) -> bool:
        """Whether a record waits for lines that may belong to it."""
        return bool(self._lines)

    def feed(self, line: bytes, start: int) -> list[Grouped]:
        """Take the next line.

        Args:
            line: with its newline.
            start: byte offset of it.
        Returns:
            The record that is complete now, if one is.
        """
        done = [] if self._belongs(line) else self.flush()
        if not self._lines:
            self._start = start
        self._lines.append(line)
        self._size += len(line)
        self._end = start + len(line)
        is_frame = line[:1] in (b" ", b"\t") and _MARGIN.match(line) is None
        self._expects_exception = self._in_traceback and is_frame
        self._in_traceback = self._in_traceback or _TRACEBACK in line
        return done

    def flush(self) -> list[Grouped]:
        """The record that was waiting, if one was."""
        if not self._lines:
            return []
        text = b"".join(self._lines).rstrip(b"\r\n")
        grouped = Grouped(self._start, self._end, text)
        self._lines, self._size = [], 0
        self._in_traceback = self._expects_exception = False
        return [grouped]

    def _belongs(self, line: bytes) -> bool:
        if not self._lines or self._size + len(line) > self._bytes_max:
            return False
        if not line.strip():
            return self._in_traceback  # blank lines stand between chained ones
        if _CONTINUES.match(line) is not None:
            return True
        return self._expects_exception  # the line that names the exception is not indented
