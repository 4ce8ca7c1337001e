"""Makes room in a spool: what is not worth writing any more is not worth keeping either.

A closed segment is written again without the lines below a severity. Each hole gets a loss line in its
place, and a jump line says where the offsets go on (ARCHITECTURE.md, "Spool").
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import parse_timestamp
from tracing.spool.directory import FILE_MODE, write_whole
from tracing.spool.format import is_about_the_spool, jump_line, loss_line, service_of
from tracing.spool.reader import open_segment, placed

# A line begins like this whoever wrote it (`tracing.line.KEYS`); one that does not is kept.
_HEAD: Final = re.compile(rb'\{"timestamp":"([^"]{20,35})","level":"([A-Z]+[234]?)"')
# Room for a jump line after a loss line; a hole that is no longer than both would save nothing.
_JUMP_BYTES_MAX: Final = 48
_WORTH_SHARE: Final = 0.9  # a file that would not become smaller than this is left alone


@dataclass(frozen=True, slots=True)
class Thinned:
    """What writing a segment again has brought."""

    freed_bytes: int
    lost_lines: int


NOTHING: Final = Thinned(0, 0)


def thin(path: Path, severity_min: int, *, begin: int = 0) -> Thinned:
    """Write a closed segment again without the lines below a severity number.

    Only for whoever holds the `shipper` lock; readers keep what they have open.

    Args:
        severity_min: OpenTelemetry severity number of what is kept. Loss and close lines always are.
        begin: logical offset before which nothing is touched, since it has been sent.
    Returns:
        `NOTHING` when it was not worth it, or could not be written: the segment is as it was then.
    """
    segment = open_segment(path)
    if segment is None:
        return NOTHING
    try:
        size = os.fstat(segment.fd).st_size
        data = os.pread(segment.fd, size, segment.header_bytes)
    finally:
        segment.close()
    parts, lost = _without(
        placed(segment.header, data), severity_min, begin, service_of(segment.header, path.parent)
    )
    content = replace(segment.header, thinned=True).encode() + b"".join(parts)
    if not lost or len(content) > _WORTH_SHARE * size:
        return NOTHING
    fresh = path.with_suffix(".thinned")
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        try:
            write_whole(fd, content)
        finally:
            os.close(fd)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        return NOTHING
    return Thinned(size - len(content), lost)


def _without(
    lines: Iterable[tuple[int, bytes]], severity_min: int, begin: int, service: str
) -> tuple[list[bytes], int]:
    """Return the parts of the new segment, and how many lines are not in it."""
    parts: list[bytes] = []
    hole: list[bytes] = []
    hole_begin = position = -1
    lost = 0
    for offset, line in lines:
        if position >= 0 and offset != position:
            lost += _close_hole(parts, hole, hole_begin, service)
            parts.append(jump_line(offset))
        if offset >= begin and _severity_number(line) < severity_min:
            if not hole:
                hole_begin = offset
            hole.append(line)
        else:
            count = _close_hole(parts, hole, hole_begin, service)
            if count:
                parts.append(jump_line(offset))
            lost += count
            parts.append(line)
        position = offset + len(line)
    count = _close_hole(parts, hole, hole_begin, service)
    if count:
        parts.append(jump_line(position))
    return parts, lost + count


def _close_hole(parts: list[bytes], hole: list[bytes], begin: int, service: str) -> int:
    """Put a loss line in place of the lines, or the lines themselves when they are no longer than it."""
    if not hole:
        return 0
    lines, size = hole.copy(), sum(map(len, hole))
    hole.clear()
    loss = loss_line(
        service, _timestamp_ns(lines[0]), reason="thinned", count=len(lines), begin=begin, end=begin + size
    )
    if len(loss) + _JUMP_BYTES_MAX >= size:
        parts += lines
        return 0
    parts.append(loss)
    return len(lines)


def _severity_number(line: bytes) -> int:
    head = _HEAD.match(line)
    if head is None or is_about_the_spool(line):
        return max(sc.SEVERITY_NUMBERS.values())
    return sc.severity_number(head[2].decode())


def _timestamp_ns(line: bytes) -> int:
    head = _HEAD.match(line)
    try:
        return parse_timestamp(head[1].decode()) if head else 0
    except (InvalidLine, UnicodeDecodeError):
        return 0
