"""Whether the files of an index are what was written. Reads only.

tantivy ends each of its files with a footer that holds the CRC of what is before it, but does not check it
when it opens an index, and on some flipped bits it panics or answers wrongly. Source: tantivy
`src/directory/footer.rs`, index format 7.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

_MAGIC: Final = 1337
_TRAILER: Final = struct.Struct("<II")  # length of the footer, magic
_FOOTER_BYTES_MAX: Final = 10_000
_READ_BYTES: Final = 1 << 20
_REQUIRED: Final = (".store", ".term", ".idx", ".fast", ".fieldnorm", ".pos")
_ATTEMPTS_MAX: Final = 5


class _Footer(msgspec.Struct):
    crc: int


class _Segment(msgspec.Struct):
    segment_id: str


class _Meta(msgspec.Struct):
    segments: list[_Segment]


def damaged_files(index: Path) -> list[str]:
    """What is wrong with an index, one sentence a file; empty when all is as it was written.

    Files that a merge has replaced meanwhile are passed over: merging goes on while this reads.
    """
    for _ in range(_ATTEMPTS_MAX):
        try:
            meta = (index / "meta.json").read_bytes()
            stems = segments_of(meta)
        except (OSError, msgspec.DecodeError) as error:
            return [f"meta.json: {error}"]
        found = []
        for stem in stems:
            found += _damage_of_segment(index, stem)
        if not found or (index / "meta.json").read_bytes() == meta:
            return found
    return found


def segments_of(meta: bytes) -> list[str]:
    """What the names of an index's files begin with, a name for each segment of its `meta.json`.

    Raises:
        msgspec.DecodeError: it is not what tantivy writes.
    """
    segments = msgspec.json.decode(meta, type=_Meta).segments
    return [segment.segment_id.replace("-", "") for segment in segments]


def _damage_of_segment(index: Path, stem: str) -> list[str]:
    present = {path.suffix: path for path in index.glob(f"{stem}.*")}
    found = [f"{stem}{suffix}: missing" for suffix in _REQUIRED if suffix not in present]
    for path in sorted(present.values()):
        reason = damage_of_file(path)
        if reason is not None:
            found.append(f"{path.name}: {reason}")
    return found


def damage_of_file(path: Path) -> str | None:
    """Why a file is not what tantivy wrote; `None` when it is."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - _TRAILER.size))
            trailer = file.read()
            if len(trailer) < _TRAILER.size:
                return "cut off"
            length, magic = _TRAILER.unpack(trailer)
            content = size - _TRAILER.size - length
            if magic != _MAGIC or length > _FOOTER_BYTES_MAX or content < 0:
                return "no footer"
            file.seek(content)
            footer = msgspec.json.decode(file.read(length), type=_Footer)
            file.seek(0)
            checksum, left = 0, content
            while left > 0 and (block := file.read(min(left, _READ_BYTES))):
                checksum = crc32(block, checksum)
                left -= len(block)
    except FileNotFoundError:
        return "missing"
    except (OSError, msgspec.DecodeError) as error:
        return str(error)
    return None if checksum == footer.crc else "checksum differs"
