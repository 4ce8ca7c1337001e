"""Requests of our own shippers and importers -> whose lines, and where they begin. Pure.

The protocol is ARCHITECTURE.md, "Native ingest".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from collector.errors import Refused

FORMAT_HEADER: Final = "backtrail-format"
SPOOL_HEADER: Final = "backtrail-spool"
OFFSET_HEADER: Final = "backtrail-offset"
IMPORT_HEADER: Final = "backtrail-import"
FORMATS: Final = ("1",)
SPOOL_FORMAT: Final = 1
HEADER_LINE_BYTES_MAX: Final = 65_536

_SPOOL_ID: Final = re.compile(r"[0-9a-f]{32}")
_OFFSET: Final = re.compile(r"[0-9]{1,18}")  # below 2**63, whatever the digits


class SpoolPlace(msgspec.Struct, frozen=True):
    """Where the lines of a request stand: `offset` is that of the first line's first byte."""

    spool_id: str
    offset: int


class Import(msgspec.Struct, frozen=True):
    """The lines of the request have no place; each carries its `uid`."""


class SpoolHeader(msgspec.Struct, frozen=True):
    """The header line of a spool's segment, as far as the collector uses it."""

    backtrail_spool: int
    spool_id: str
    resource: dict[str, Any]
    parent: dict[str, Any] | None = None


_header_decoder: Final = msgspec.json.Decoder(SpoolHeader)


def read_place(headers: Mapping[str, str]) -> SpoolPlace | Import:
    """Read the `Backtrail-*` headers.

    Args:
        headers: by name in lower case.
    Raises:
        Refused: `bad_header`, or `unsupported_format` for a version that is not read here.
    """
    version = headers.get(FORMAT_HEADER)
    if version is not None and version.strip() not in FORMATS:
        raise Refused(
            "unsupported_format",
            f"Backtrail-Format: {version[:64]!r}: this collector reads {', '.join(FORMATS)}",
            field="Backtrail-Format",
        )
    spool_id, offset = headers.get(SPOOL_HEADER), headers.get(OFFSET_HEADER)
    if headers.get(IMPORT_HEADER) is not None:
        if headers[IMPORT_HEADER].strip() != "1":
            raise _bad_header("Backtrail-Import", headers[IMPORT_HEADER], "1")
        if spool_id is not None or offset is not None:
            raise _bad_header("Backtrail-Import", "1", "either this or Backtrail-Spool, not both")
        return Import()
    if version is None:
        raise _bad_header("Backtrail-Format", version, "1")
    if spool_id is None or not _SPOOL_ID.fullmatch(spool_id.strip()):
        raise _bad_header("Backtrail-Spool", spool_id, "32 lowercase hexadecimal digits")
    if offset is None or not _OFFSET.fullmatch(offset.strip()):
        raise _bad_header("Backtrail-Offset", offset, "a count of bytes")
    return SpoolPlace(spool_id.strip(), int(offset))


def _bad_header(name: str, value: str | None, expected: str) -> Refused:
    got = "nothing" if value is None else repr(value[:64])
    return Refused("bad_header", f"{name}: {expected} is expected, got {got}", field=name)


def split_header(body: bytes, spool_id: str) -> tuple[SpoolHeader, bytes]:
    """Part the segment's header line from the record lines.

    Raises:
        Refused: `bad_segment_header`; nothing of the request can be trusted then.
    """
    end = body.find(b"\n")
    if not 0 <= end <= HEADER_LINE_BYTES_MAX:
        raise _bad_segment("the body must begin with the header line of the spool's segment")
    header = _read_header(body[: end + 1])
    if header.spool_id != spool_id:
        raise _bad_segment(f"Backtrail-Spool says {spool_id}, the header line {header.spool_id[:64]!r}")
    return header, body[end + 1 :]


@lru_cache(maxsize=256)  # a shipper sends the same one with every batch
def _read_header(line: bytes) -> SpoolHeader:
    try:
        header = _header_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_segment(f"{error}: {line[:80]!r}") from None
    if header.backtrail_spool != SPOOL_FORMAT:
        raise _bad_segment(
            f"backtrail_spool is {header.backtrail_spool}, this collector reads {SPOOL_FORMAT}"
        )
    return header


def _bad_segment(message: str) -> Refused:
    return Refused("bad_segment_header", f"header line of the segment: {message}", field="backtrail_spool")


def parent_spool(header: SpoolHeader) -> str | None:
    """The spool of the process that forked this one."""
    parent = (header.parent or {}).get("spool_id")
    return parent if isinstance(parent, str) and _SPOOL_ID.fullmatch(parent) else None
