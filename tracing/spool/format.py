"""What stands in a spool besides record lines: names, the header line, loss and close lines. Pure.

The layout is ARCHITECTURE.md, "Spool": `<root>/<service>/<spool id>/` with segments, locks and `sent`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote
from zlib import crc32

import orjson

from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import dumps, encode

SPOOL_FORMAT: Final = 1

LOCK_FILE: Final = "lock"  # held for as long as the owner lives
SHIPPER_FILE: Final = "shipper"  # held by whoever ships at the moment
SENT_FILE: Final = "sent"  # the offset up to which the collector has acknowledged

# Why records are missing between two offsets: a closed list, each word a counter and a loss line.
LOSS_REASONS: Final = (
    "over_bound",  # not written: the service's spool was near its bound
    "memory_full",  # not written: no disk to write to, and the queue in memory was near its bound
    "thinned",  # written, and given up again to make room
    "damaged",  # bytes on disk that are no line
    "refused",  # the collector refused the request as a whole
    "deleted",  # somebody removed the files before they were sent
    "write_failed",  # an error nobody foresaw
)

RESOURCE_BYTES_MAX: Final = 32_768  # half of what a collector reads as a header line
RESOURCE_CUT: Final = "resource.cut"

_SPOOL_ID: Final = re.compile(r"[0-9a-f]{32}")
_SEGMENT_NAME: Final = re.compile(r"([0-9]{8})\.ndjson")
_HEADER_START: Final = b'{"backtrail_spool":'
# One flipped bit in an offset would give every line of the segment another line's identity.
_CHECKSUM_KEY: Final = b',"crc32":'
_JUMP_START: Final = b'{"backtrail_offset":'
_CLOSE_MARK: Final = b'"kind":"close"'
_SERVICE_BYTES_MAX: Final = 200  # file systems take 255; the rest is for what makes a cut name unique


def fitting_resource(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource that fits into a header line and into JSON: it comes from the environment.

    The longest attributes go until the rest fits, and `resource.cut` says how many went.
    """
    fitting = orjson.loads(encode({sc.RESOURCE: resource})).get(sc.RESOURCE) or {}
    dropped = 0
    while len(dumps(fitting)) > RESOURCE_BYTES_MAX:
        longest = max(fitting, key=lambda key: len(key) + len(dumps(fitting[key])))
        del fitting[longest]
        dropped += 1
        fitting[RESOURCE_CUT] = f"{dropped} attributes dropped"
    return dict(fitting)


def new_spool_id() -> str:
    """Draw the identity of one process incarnation: 128 random bits, 32 hex."""
    return secrets.token_hex(16)  # os.urandom: unlike `random`, never the same on both sides of a fork


def is_spool_id(name: str) -> bool:
    """Whether a directory of this name is a spool."""
    return _SPOOL_ID.fullmatch(name) is not None


def segment_name(number: int) -> str:
    """Return the file name of a segment, `00000007.ndjson`."""
    return f"{number:08d}.ndjson"


def segment_number(name: str) -> int | None:
    """Return a segment's number, `None` for a file that is not one."""
    match = _SEGMENT_NAME.fullmatch(name)
    return int(match[1]) if match else None


def service_directory(root: Path, service: str) -> Path:
    """Return where the incarnations of a service live; any name is safe as a part of a path."""
    name = quote(service, safe=" ") or "%"
    if name.startswith("."):  # no hidden directory, and never the parent
        name = "%2E" + name[1:]
    if len(name) > _SERVICE_BYTES_MAX:
        name = f"{name[:_SERVICE_BYTES_MAX]}~{hashlib.sha256(service.encode()).hexdigest()[:16]}"
    return root / name


class OtherFormat(InvalidLine):
    """A segment of another version, undamaged: to be left to who understands it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """First line of a segment: whose it is, and where it begins."""

    spool_id: str  # 32 lowercase hex
    segment: int  # 0, 1, 2 …
    first_offset: int  # logical byte offset of the first line after the header
    first_line: int = 0  # number of lines in the segments before, so that a close line can count them
    resource: Mapping[str, Any]
    parent: Mapping[str, Any] | None = None  # {spool_id, pid} of the process that forked this one
    thinned: bool = False  # True: lines were taken out, and jump lines say where

    def encode(self) -> bytes:
        """Write the line, newline included."""
        fields = {
            "backtrail_spool": SPOOL_FORMAT,
            "spool_id": self.spool_id,
            "segment": self.segment,
            "first_offset": self.first_offset,
            "first_line": self.first_line,
            "resource": dict(self.resource),
        }
        if self.parent is not None:
            fields["parent"] = dict(self.parent)
        if self.thinned:
            fields["thinned"] = True
        body = dumps(fields)[:-1]
        return b"%s%s%d}\n" % (body, _CHECKSUM_KEY, crc32(body))

    @classmethod
    def decode(cls, line: bytes) -> SegmentHeader:
        """Read the line; keys that a later version adds are passed over.

        Raises:
            OtherFormat: it is whole, and of another version.
            InvalidLine: it is damaged, or not a header that this version understands.
        """
        body, checksum_key, checksum = line.rpartition(_CHECKSUM_KEY)
        if checksum_key and checksum.rstrip(b"\n") != b"%d}" % crc32(body):
            raise InvalidLine("not_json", f"segment header: wrong checksum: {line[:80]!r}")
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InvalidLine("not_json", f"segment header: {error}: {line[:80]!r}") from None
        version = fields.get("backtrail_spool") if isinstance(fields, dict) else None
        if checksum_key and type(version) is int and version != SPOOL_FORMAT:
            raise OtherFormat("wrong_type", f"written in format {version}, this version reads {SPOOL_FORMAT}")
        if version != SPOOL_FORMAT:
            raise InvalidLine("wrong_type", f"not a header of format {SPOOL_FORMAT}: {line[:80]!r}")
        spool_id, resource, parent = fields.get("spool_id"), fields.get("resource"), fields.get("parent")
        if not isinstance(spool_id, str) or not is_spool_id(spool_id):
            raise InvalidLine("bad_id", f"spool_id: 32 hex expected, got {spool_id!r:.64}", field="spool_id")
        if not isinstance(resource, dict) or not isinstance(parent, dict | None):
            raise InvalidLine("wrong_type", "resource and parent: objects expected", field=sc.RESOURCE)
        numbers = {key: fields.get(key, 0) for key in ("segment", "first_offset", "first_line")}
        for key, value in numbers.items():
            if type(value) is not int or value < 0:
                raise InvalidLine("wrong_type", f"{key}: a count expected, got {value!r:.64}", field=key)
        thinned = fields.get("thinned") is True
        return cls(spool_id=spool_id, resource=resource, parent=parent, thinned=thinned, **numbers)


def jump_line(offset: int) -> bytes:
    """Write the mark that a thinned segment has after a hole: the next line's offset; not counted itself."""
    return b"%s%d}\n" % (_JUMP_START, offset)


def jump_offset(line: bytes) -> int | None:
    """Return what `jump_line` was given, `None` for any other line."""
    if not line.startswith(_JUMP_START):
        return None
    digits = line[len(_JUMP_START) :].rstrip(b"}\n")
    return int(digits) if digits.isdigit() else None


def sent_text(offset: int) -> bytes:
    """Write what stands in `sent`: always as long, so that rewriting it in place works on a full disk too.

    The checksum is for the same reason as a header's: a wrong digit would skip lines that nobody has.
    """
    digits = b"%020d" % offset
    return b"%s %08x\n" % (digits, crc32(digits))


def read_sent(text: bytes) -> int | None:
    """Return what `sent_text` was given, `None` for anything else."""
    digits = text[:20]
    return int(digits) if digits.isdigit() and text == sent_text(int(digits)) else None


def is_header(line: bytes) -> bool:
    """Whether a line begins as a segment header does."""
    return line.startswith(_HEADER_START)


def is_about_the_spool(line: bytes) -> bool:
    """Whether a line is a loss or a close line: no record of the program's."""
    start = line[:512]
    return b'"kind":"loss"' in start or _CLOSE_MARK in start


def has_close_line(data: bytes) -> bool:
    """Whether one of these whole lines closes the spool."""
    return _CLOSE_MARK in data and any(
        line.startswith(b'{"timestamp"') and b'"close":{' in line
        for line in data.split(b"\n")
        if _CLOSE_MARK in line[:512]
    )


def loss_line(service: str, timestamp_ns: int, *, reason: str, count: int, begin: int, end: int) -> bytes:
    """Write the line that says: between the offsets `begin` and `end`, `count` records are missing."""
    return encode(
        {
            sc.TIMESTAMP: timestamp_ns,
            sc.LEVEL: "WARN",
            sc.SERVICE: service,
            sc.KIND: sc.KIND_LOSS,
            sc.LOSS: {"reason": reason, "count": count, "from": begin, "to": end},
        }
    )


def tells_loss(data: bytes, reason: str, count: int, begin: int, end: int) -> bool:
    """Whether one of these whole lines is the loss line of just this loss."""
    told = dumps({sc.LOSS: {"reason": reason, "count": count, "from": begin, "to": end}})[1:-1]
    return any(told in line and b'"kind":"loss"' in line[:512] for line in data.split(b"\n"))


def close_line(service: str, timestamp_ns: int, *, count: int, end_offset: int, ended: str) -> bytes:
    """Write the line that ends a spool.

    Args:
        count: lines before this one, loss and span-start lines included.
        end_offset: offset of this line's own first byte.
        ended: `exit`, `shutdown`, `killed` …: how the process ended.
    """
    return encode(
        {
            sc.TIMESTAMP: timestamp_ns,
            sc.LEVEL: "INFO",
            sc.SERVICE: service,
            sc.KIND: sc.KIND_CLOSE,
            sc.CLOSE: {"count": count, "end_offset": end_offset, "ended": ended},
        }
    )


def service_of(header: SegmentHeader, directory: Path) -> str:
    """Return the service that a spool belongs to: as its header says, else by its place."""
    named = header.resource.get(sc.SERVICE_NAME)
    return named if isinstance(named, str) and named else unquote(directory.parent.name)
