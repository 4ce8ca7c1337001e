"""Files for import -> record lines, each with its identity: a stream that never holds a whole file.

Plain, gzip or zstd is told by the first bytes, the format by each line: our record lines (a spool's
segment too, whose header names the process and the position) or the recorded fault data. What cannot
be read is counted with its reason, and the first of them are kept to be shown.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import sys
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, NamedTuple, cast

import msgspec
import orjson
import zstandard

from collector.model import NO_ATTRIBUTES, Record
from collector.receive import lines as own
from collector.receive.recorded import decode_recorded, recorded_line, recorded_record
from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import LINE_BYTES_MAX, REASONS

STDIN: Final = "-"
UNREADABLE_KEPT_MAX: Final = 20  # as many as a person reads before mending the file
READ_BYTES: Final = 1 << 18
ZSTD_PIECE_BYTES: Final = 1 << 10  # zstd packs at most 1 : 2^15, so a piece unpacks into 32 MiB at most
ZSTD_WINDOW_BYTES_MAX: Final = 1 << 27  # what the zstd tool takes by default; a hostile frame asks for more
# Reasons of a whole file, beside those of a line (`tracing.line.REASONS`).
FILE_REASONS: Final = ("cannot_open", "damaged")

_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_HEADER: Final = b'{"backtrail_spool":'
_JUMP: Final = b'{"backtrail_offset":'
_TIMESTAMP: Final = re.compile(rb'"timestamp"\s*:\s*([-"\d])')


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """One line, or the rest of a file, that could not be read."""

    file: str
    line_number: int  # from 1; 0: the file as a whole
    reason: str  # a word of `tracing.line.REASONS` or `FILE_REASONS`
    message: str
    field: str | None = None


class ImportReport(msgspec.Struct, kw_only=True):
    """What became of the lines so far; filled while the files are read."""

    files: int = 0
    lines: int = 0  # blank ones are not counted
    records: int = 0  # lines that were handed on
    # Of a spool: headers, jumps, close lines, and a torn end, which was never logged whole. No records.
    passed_over: int = 0
    unreadable: Counter[str] = msgspec.field(default_factory=Counter)  # by reason
    first_unreadable: list[Unreadable] = []
    bytes_read: int = 0  # as stored, so that it can be compared with the files' sizes
    bytes_total: int | None = None  # None: not known, because standard input is read

    def refuse(self, trouble: Unreadable) -> None:
        """Count one that could not be read, and keep it while there is room."""
        self.unreadable[trouble.reason] += 1
        if len(self.first_unreadable) < UNREADABLE_KEPT_MAX:
            self.first_unreadable.append(trouble)


class ImportLine(NamedTuple):
    """One record line, newline included, and its identity."""

    uid: str
    line: bytes


class _Item(NamedTuple):
    record: Record
    line: bytes | None = None  # None: the file's line is not in our format


def import_uids(lines: Iterable[bytes]) -> Iterator[str]:
    """Give each line of one file its identity: 32 hex, of its bytes and its ordinal among equal lines.

    The same file gives the same identities, whatever is appended to it later.
    """
    ordinals = _Ordinals()
    for line in lines:
        yield ordinals.uid(line)


def read_files(
    paths: Sequence[str | Path], *, report: ImportReport | None = None, stdin: BinaryIO | None = None
) -> Iterator[ImportLine]:
    """Read files as record lines, lazily, one file after the other.

    Args:
        paths: files; `-` is standard input.
        report: is filled while the lines are drawn.
        stdin: what `-` stands for; the process's own by default.
    """
    report = ImportReport() if report is None else report
    report.bytes_total = _bytes_total(paths)
    for path in paths:
        for record, line in _read(str(path), report, stdin):
            yield ImportLine(record.uid, line or recorded_line(record))


def read_records(
    paths: Sequence[str | Path], *, report: ImportReport | None = None, stdin: BinaryIO | None = None
) -> Iterator[Record]:
    """Read files as records of the model; otherwise as `read_files`."""
    report = ImportReport() if report is None else report
    report.bytes_total = _bytes_total(paths)
    for path in paths:
        for record, _ in _read(str(path), report, stdin):
            yield record


def _read(name: str, report: ImportReport, stdin: BinaryIO | None) -> Iterator[_Item]:
    report.files += 1
    try:
        raw = (stdin or sys.stdin.buffer) if name == STDIN else Path(name).open("rb")  # noqa: SIM115
    except OSError as error:
        report.refuse(_whole_file(name, "cannot_open", error.strerror or str(error)))
        return
    counted = _CountingReader(raw, report)
    try:
        yield from _FileReader(name, report).items(_unpacked(counted))
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        # What came before the damage has been handed on.
        report.refuse(_whole_file(name, "damaged", f"{error}; read {counted.bytes_read} bytes of it"))
    finally:
        if name != STDIN:
            raw.close()


class _FileReader:
    """Tells the lines of one file apart, and remembers what its spool header said."""

    def __init__(self, name: str, report: ImportReport) -> None:
        self._name = name
        self._report = report
        self._ordinals = _Ordinals()
        self._is_recorded = False  # what the last line was: the next is most likely the same
        self._spool_id: str | None = None
        self._spool_offset = 0
        self._resource: dict[str, Any] = NO_ATTRIBUTES

    def items(self, stream: IO[bytes]) -> Iterator[_Item]:
        for number, (line, length) in enumerate(_lines(stream), start=1):
            bare = line.rstrip(b"\r\n")
            if not bare.strip(b" \t\x00"):  # NULs: the tail of a mapped segment
                self._spool_offset += length
                continue
            self._report.lines += 1
            if self._spool_id is not None and not line.endswith(b"\n"):
                self._report.passed_over += 1  # a spool's data ends at its last newline
                continue
            try:
                item = self._item(bare, length)
            except InvalidLine as error:
                self._report.refuse(
                    Unreadable(
                        file=self._name,
                        line_number=number,
                        reason=error.reason,
                        message=str(error),
                        field=error.field,
                    )
                )
                continue
            if item is None:
                self._report.passed_over += 1
            else:
                self._report.records += 1
                yield item

    def _item(self, line: bytes, length: int) -> _Item | None:
        if line.startswith(_HEADER):
            self._enter_spool(line)
            return None
        if self._spool_id is not None and line.startswith(_JUMP):
            self._spool_offset = _jump_target(line)
            return None
        offset = self._spool_offset
        self._spool_offset += length
        if len(line) > LINE_BYTES_MAX:
            raise InvalidLine("line_too_long", f"{length} bytes, at most {LINE_BYTES_MAX} are read")
        if self._looks_recorded(line):
            return _Item(recorded_record(decode_recorded(line), uid=self._uid(line, offset, None)))
        decoded = own.decode_line(line)
        uid = self._uid(line, offset, decoded.uid)
        if decoded.kind == sc.KIND_CLOSE:
            return None
        if self._resource and not decoded.resource:
            line = line.rstrip()[:-1] + b',"resource":' + orjson.dumps(self._resource) + b"}"
        return _Item(own.record(decoded, uid=uid, resource=self._resource), line + b"\n")

    def _uid(self, line: bytes, offset: int, own_uid: str | None) -> str:
        """Place in a spool, else what an exported line says itself, else its content and ordinal."""
        if self._spool_id is not None:
            return f"{self._spool_id}-{offset}"
        return own_uid or self._ordinals.uid(line)

    def _looks_recorded(self, line: bytes) -> bool:
        """Whether the line's time is a number; ours is text. Looks at the bytes: each line is asked."""
        found = _TIMESTAMP.search(line)
        if found is not None:
            self._is_recorded = found[1] != b'"'
        return self._is_recorded

    def _enter_spool(self, line: bytes) -> None:
        try:
            header = orjson.loads(line)
            spool_id, offset, resource = header["spool_id"], header["first_offset"], header["resource"]
        except (orjson.JSONDecodeError, KeyError) as error:
            raise InvalidLine("not_json", f"not a spool's header: {error}") from None
        if not isinstance(spool_id, str) or not isinstance(offset, int) or not isinstance(resource, dict):
            raise InvalidLine("wrong_type", "a spool's header has spool_id, first_offset and resource")
        self._spool_id, self._spool_offset, self._resource = spool_id, offset, resource


def _jump_target(line: bytes) -> int:
    """Where the offsets of a thinned segment go on."""
    try:
        offset = orjson.loads(line)["backtrail_offset"]
    except orjson.JSONDecodeError as error:
        raise InvalidLine("not_json", f"not a spool's jump: {error}") from None
    if not isinstance(offset, int) or offset < 0:
        raise InvalidLine("wrong_type", "backtrail_offset: a count of bytes is expected")
    return offset


class _Ordinals:
    """Counts equal lines exactly in about 16 bytes a line.

    A set of Python integers would take ninety: this is a hash table in one array, with linear probing.
    Two different lines that share 64 bits of their hash only get a higher ordinal than they need.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._used = 0
        self._repeats: dict[int, int] = {}

    def uid(self, line: bytes) -> str:
        """The identity of the next line, 32 hex."""
        digest = hashlib.sha256(line)
        key = int.from_bytes(digest.digest()[:8], "little") or 1  # zero means an empty slot
        ordinal = 0
        if not self._add(key):
            ordinal = self._repeats.get(key, 0) + 1
            self._repeats[key] = ordinal
        digest.update(b"\n%d" % ordinal)
        return digest.hexdigest()[:32]

    def _add(self, key: int) -> bool:
        slots = self._slots
        mask = len(slots) - 1
        at = key & mask
        while slots[at]:
            if slots[at] == key:
                return False
            at = (at + 1) & mask
        slots[at] = key
        self._used += 1
        if 2 * self._used > len(slots):
            self._grow()
        return True

    def _grow(self) -> None:
        old = self._slots
        self._slots = array("Q", bytes(8 * 2 * len(old)))
        self._used = 0
        for key in old:
            if key:
                self._add(key)


class _CountingReader(io.RawIOBase):
    """Passes bytes on and counts them, for the progress bar."""

    def __init__(self, raw: IO[bytes], report: ImportReport) -> None:
        self._raw = raw
        self._report = report
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._raw.read(len(buffer))
        buffer[: len(piece)] = piece
        self.bytes_read += len(piece)
        self._report.bytes_read += len(piece)
        return len(piece)


class _ZstdReader(io.RawIOBase):
    """Reads zstd frames one after the other, and says so when the last one is cut off."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._raw.read(ZSTD_PIECE_BYTES)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the file ends inside a zstd frame")
                return 0
            if self._frame is None:
                decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES_MAX)
                self._frame = decompressor.decompressobj()
            self._ready = memoryview(self._frame.decompress(self._packed))
            self._packed = b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _unpacked(raw: _CountingReader) -> IO[bytes]:
    buffered = io.BufferedReader(raw, READ_BYTES)
    magic = buffered.peek(4)[:4]
    if magic.startswith(_GZIP_MAGIC):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    if magic == _ZSTD_MAGIC:
        return io.BufferedReader(_ZstdReader(buffered), READ_BYTES)
    return buffered


def _lines(stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Lines with their newline and their length; of one that is too long only the beginning."""
    piece_bytes = LINE_BYTES_MAX + 2
    while line := stream.readline(piece_bytes):
        length, piece = len(line), line
        while len(piece) == piece_bytes and not piece.endswith(b"\n"):
            piece = stream.readline(piece_bytes)
            length += len(piece)
        yield line, length


def _bytes_total(paths: Sequence[str | Path]) -> int | None:
    if any(str(path) == STDIN for path in paths):
        return None
    return sum(Path(path).stat().st_size for path in paths if Path(path).is_file())


def _whole_file(name: str, reason: str, message: str) -> Unreadable:
    return Unreadable(file=name, line_number=0, reason=reason, message=message)


__all__ = [
    "FILE_REASONS",
    "REASONS",
    "STDIN",
    "ImportLine",
    "ImportReport",
    "Unreadable",
    "import_uids",
    "read_files",
    "read_records",
]
