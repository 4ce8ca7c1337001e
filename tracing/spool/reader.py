"""Spool files -> batches of whole lines with their offsets. Reads only; believes nothing it reads.

Data ends at the last newline: file size means nothing. A hole of NULs in the middle, as a crash may leave
it, is passed over up to the next newline and reported as a `Hole`. Lines are not parsed here: one that is
broken is refused, with its offset and reason, by the collector, whose count is the one that people see.
`read_lines` is for those who have no collector: it parses, and counts what it skips.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tracing.errors import InvalidLine
from tracing.line import LINE_BYTES_MAX, decode
from tracing.spool.format import (
    SENT_FILE,
    OtherFormat,
    SegmentHeader,
    is_spool_id,
    jump_offset,
    read_sent,
    segment_number,
)

HEADER_BYTES_MAX: Final = LINE_BYTES_MAX  # a resource has the size of a record at most
READ_BYTES: Final = 2 * LINE_BYTES_MAX  # so that the longest line is seen whole
# The widest hole that is filled with blanks, so that one request can carry what lies on both sides;
# a wider one begins a new request.
FILLED_BYTES_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole lines of one segment, as they travel in one request."""

    header: bytes  # the segment's header line
    spool_id: str
    offset: int  # logical offset of the first byte of `data`
    data: bytes  # whole lines; an offset inside is the first one plus the place in `data`

    @property
    def end_offset(self) -> int:
        """Logical offset after the last byte."""
        return self.offset + len(self.data)

    @property
    def lines(self) -> int:
        """How many lines the batch has."""
        return self.data.count(b"\n")


@dataclass(frozen=True, slots=True)
class Hole:
    """Between two offsets there are no lines to be had."""

    begin: int
    end: int
    reason: str  # a word of `LOSS_REASONS`; `thinned` holes have loss lines already


class Segment:
    """One segment file, open for reading.

    Raises:
        OSError: the file cannot be opened.
        InvalidLine: its header cannot be understood.
    """

    def __init__(self, path: Path, *, header: SegmentHeader | None = None) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))
        try:
            start = os.pread(self.fd, HEADER_BYTES_MAX, 0)
            line_end = start.find(b"\n") + 1
            if not line_end:
                raise InvalidLine("line_too_long", f"{path}: no header line in {len(start)} bytes")
            self.header = header or SegmentHeader.decode(start[:line_end])
            if self.header.spool_id != path.parent.name or self.header.segment != segment_number(path.name):
                raise InvalidLine("bad_id", f"{path}: the header is another segment's", field="spool_id")
        except BaseException:
            os.close(self.fd)
            raise
        self.header_line = header.encode() if header else start[:line_end]
        self.header_bytes = line_end
        self._place = line_end  # position in the file of …
        self._offset = self.header.first_offset  # … this logical offset

    @property
    def data_bytes(self) -> int:
        """Size of the lines: what stands between the header and the last newline."""
        data = os.pread(self.fd, os.fstat(self.fd).st_size, self.header_bytes)
        return data.rfind(b"\n") + 1

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)

    def read(self, offset: int, bytes_max: int) -> Batch | Hole | None:
        """Return the lines from `offset` on, the hole that begins there, or `None` at the end of the data.

        Args:
            offset: start of a line.
            bytes_max: at most so many bytes; the first line is returned whatever its length.
        """
        if self.header.thinned:
            return self._read_thinned(offset, bytes_max)
        place = self.header_bytes + offset - self.header.first_offset
        data = os.pread(self.fd, max(bytes_max, READ_BYTES), place)
        end = data.rfind(b"\n", 0, bytes_max) + 1 or data.find(b"\n") + 1
        hole = data.find(b"\0", 0, end)
        if hole >= 0:
            end = data.rfind(b"\n", 0, hole) + 1
        if end:
            return self._batch(offset, data[:end])
        next_line = self._next_line(place, data)
        return None if next_line is None else Hole(offset, offset + next_line - place, "damaged")

    def _batch(self, offset: int, data: bytes) -> Batch:
        return Batch(self.header_line, self.header.spool_id, offset, data)

    def _next_line(self, place: int, data: bytes) -> int | None:
        """Return where the first line after a hole begins; `None` when the hole is the end of the data."""
        while data:
            newline = data.find(b"\n")
            if newline >= 0:
                return place + newline + 1
            place += len(data)
            data = os.pread(self.fd, READ_BYTES, place)
        return None

    def _read_thinned(self, offset: int, bytes_max: int) -> Batch | Hole | None:
        """Read where jump lines say what the offsets are; lines before `offset` are passed over."""
        if offset < self._offset:
            self._place, self._offset = self.header_bytes, self.header.first_offset
        parts: list[bytes] = []
        begin, size = offset, 0
        while True:
            data = os.pread(self.fd, READ_BYTES, self._place)
            lines = whole_lines(data)
            if not lines:
                break
            for line in lines:
                jump = jump_offset(line)
                if jump is not None:
                    gap = jump - self._offset
                    if parts and (gap > FILLED_BYTES_MAX or size + gap > bytes_max or gap < 0):
                        return self._batch(begin, b"".join(parts))
                    if parts and gap:
                        parts[-1] = parts[-1][:-1] + b" " * gap + b"\n"
                        size += gap
                    self._offset = jump
                elif self._offset < offset:
                    self._offset += len(line)
                else:
                    if parts and size + len(line) > bytes_max:
                        return self._batch(begin, b"".join(parts))
                    if not parts:
                        begin = self._offset
                    parts.append(line)
                    size += len(line)
                    self._offset += len(line)
                self._place += len(line)
        return self._batch(begin, b"".join(parts)) if parts else None


class SpoolReader:
    """Reads a spool from any offset on, through all its segments, while its owner may still write.

    Not thread-safe. Holds at most one file open.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._segment: Segment | None = None

    def read(self, offset: int, bytes_max: int) -> Batch | Hole | None:
        """Return the lines from `offset` on, the hole that begins there, or `None` when there is no more.

        A batch may begin after `offset`: what lies between has been thinned, and a loss line said so.
        """
        while True:
            segment = self._segment_at(offset)
            if segment is None:
                return None
            if segment.header.first_offset > offset:
                return Hole(offset, segment.header.first_offset, "deleted")
            found = segment.read(offset, bytes_max)
            if found is not None:
                return found
            following = self._first_offset_after(segment.header.segment)
            if following is None:
                if os.fstat(segment.fd).st_nlink == 0:
                    self.close()  # another file has taken its place, or will
                return None
            # The segment may have grown between the two looks; now that another follows, it cannot.
            found = segment.read(offset, bytes_max)
            if found is not None:
                return found
            self.close()
            if following > offset and not segment.header.thinned:
                return Hole(offset, following, "damaged")
            offset = max(offset, following)

    def close(self) -> None:
        """Close the file that is open."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _segment_at(self, offset: int) -> Segment | None:
        """Return the last segment that begins at or before `offset`, else the first one."""
        if self._segment is not None and self._segment.header.first_offset <= offset:
            return self._segment
        self.close()
        best: Segment | None = None
        for path in segment_paths(self.path):
            segment = open_segment(path)
            if segment is None:
                continue
            if best is not None and segment.header.first_offset > offset:
                segment.close()
                break
            if best is not None:
                best.close()
            best = segment
        self._segment = best
        return best

    def _first_offset_after(self, number: int) -> int | None:
        for path in segment_paths(self.path):
            if (segment_number(path.name) or 0) > number:
                segment = open_segment(path)
                if segment is not None:
                    segment.close()
                    return segment.header.first_offset
        return None


def whole_lines(data: bytes) -> list[bytes]:
    """Cut at newlines, and only there (`splitlines` would cut at a carriage return too); drops a torn end."""
    return [line + b"\n" for line in data.split(b"\n")[:-1]]


def placed(header: SegmentHeader, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Return the whole lines of a segment, each with its logical offset; jump lines are followed.

    Args:
        data: what stands after the header line.
    """
    offset = header.first_offset
    for line in whole_lines(data):
        jump = jump_offset(line) if header.thinned else None
        if jump is not None:
            offset = jump
        else:
            yield offset, line
            offset += len(line)


def end_offset(header: SegmentHeader, data: bytes) -> int:
    """Return the logical offset after the last whole line of a segment."""
    if not header.thinned:
        return header.first_offset + data.rfind(b"\n") + 1
    end = header.first_offset
    for line in whole_lines(data):
        jump = jump_offset(line)
        end = end + len(line) if jump is None else jump
    return end


def segment_paths(directory: Path) -> list[Path]:
    """Return the segments of a spool in their order; none when there is no such directory."""
    try:
        return sorted(path for path in directory.iterdir() if segment_number(path.name) is not None)
    except OSError:
        return []


def open_segment(path: Path) -> Segment | None:
    """Open a segment, also one whose header is damaged, if its neighbours say where it begins.

    Returns:
        `None` when the file has gone, or cannot be placed.
    """
    try:
        return Segment(path)
    except (OSError, OtherFormat):
        return None
    except InvalidLine:
        header = _inferred_header(path)
    try:
        return Segment(path, header=header) if header else None
    except (OSError, InvalidLine):
        return None


def _inferred_header(path: Path) -> SegmentHeader | None:
    """Rebuild a header from the neighbours: the first begins at 0, another between the ones beside it."""
    number = segment_number(path.name)
    if number is None or not is_spool_id(path.parent.name):
        return None
    neighbours: dict[int, tuple[SegmentHeader, int]] = {}
    for other in segment_paths(path.parent):
        try:
            segment = Segment(other)
        except (OSError, InvalidLine):
            continue
        neighbours[segment.header.segment] = segment.header, segment.data_bytes
        segment.close()
    resource = next((header.resource for header, _ in neighbours.values()), {})
    inferred = SegmentHeader(spool_id=path.parent.name, segment=number, first_offset=0, resource=resource)
    if number == 0:
        return inferred
    before, after = neighbours.get(number - 1), neighbours.get(number + 1)
    if before is not None and not before[0].thinned:
        return replace(inferred, first_offset=before[0].first_offset + before[1])
    if after is not None:
        data = unplaced_data(path)
        first_offset = after[0].first_offset - len(data)
        if first_offset >= 0 and not _is_thinned(data):
            return replace(inferred, first_offset=first_offset)
    return None


def is_of_other_format(directory: Path) -> bool:
    """Whether another version wrote a spool: its first segment says so, for all of them are alike."""
    for path in segment_paths(directory)[:1]:
        try:
            Segment(path).close()
        except OtherFormat:
            return True
        except (OSError, InvalidLine):
            pass
    return False


def unplaced_data(path: Path) -> bytes:
    """Return the lines behind a header that says nothing; none when the file is gone."""
    try:
        content = path.read_bytes()
    except OSError:
        return b""
    return content[content.find(b"\n") + 1 : content.rfind(b"\n") + 1]


def _is_thinned(data: bytes) -> bool:
    return any(jump_offset(line) is not None for line in whole_lines(data))


def sent_offset(directory: Path) -> int | None:
    """Return the offset up to which the collector has acknowledged; `None` when nobody knows."""
    try:
        return read_sent((directory / SENT_FILE).read_bytes())
    except OSError:
        return None


def read_lines(directory: Path, skipped: Counter[str] | None = None) -> Iterator[tuple[int, bytes]]:
    """Read a whole spool: each line that can be a record, with its offset.

    Args:
        skipped: counts what was passed over, by reason: one of `tracing.line.REASONS` for a line, one
            of `LOSS_REASONS` for a hole.
    """
    skipped = Counter() if skipped is None else skipped
    reader = SpoolReader(directory)
    offset = 0
    try:
        while (found := reader.read(offset, READ_BYTES)) is not None:
            if isinstance(found, Hole):
                skipped[found.reason] += 1
                offset = found.end
                continue
            offset = found.offset
            for line in whole_lines(found.data):
                try:
                    decode(line)
                except InvalidLine as error:
                    skipped[error.reason] += 1
                else:
                    yield offset, line
                offset += len(line)
    finally:
        reader.close()
