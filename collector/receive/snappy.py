"""Snappy's block format, reading only: what Loki's senders pack their requests in. Pure.

Source: google/snappy, `format_description.txt`. There is no end-of-block mark and no checksum, so the
length in front is the only thing that tells a whole block from a part.
"""

from __future__ import annotations

from collector.errors import Refused


def unsnapped(block: bytes, *, bytes_max: int) -> bytes:
    """Undo the packing.

    Raises:
        Refused: `bad_encoding`, or `body_too_large` when the block says it is longer than `bytes_max`.
    """
    length, at = _length(block)
    if length > bytes_max:
        raise Refused("body_too_large", f"the body is longer than {bytes_max} bytes when unpacked")
    plain = bytearray()
    try:
        while at < len(block):
            tag = block[at]
            at += 1
            if tag & 3 == 0:
                size, at = _literal_size(block, tag, at)
                if at + size > len(block):
                    raise _bad("a literal is cut off")
                plain += block[at : at + size]
                at += size
            else:
                size, offset, at = _copy(block, tag, at)
                _repeat(plain, offset, size)
            if len(plain) > length:
                raise _bad("it is longer than it says")
    except IndexError:
        raise _bad("the block ends in the middle") from None
    if len(plain) != length:
        raise _bad(f"{length} bytes are announced, {len(plain)} are there")
    return bytes(plain)


def _length(block: bytes) -> tuple[int, int]:
    """The announced length, seven bits a byte, and the offset behind it."""
    length = shift = 0
    for at, byte in enumerate(block[:5]):
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return length, at + 1
        shift += 7
    raise _bad("there is no length")


def _literal_size(block: bytes, tag: int, at: int) -> tuple[int, int]:
    size = tag >> 2
    if size < 60:
        return size + 1, at
    extra = size - 59  # so many bytes hold the size
    if at + extra > len(block):
        raise _bad("the block ends in the middle")
    return int.from_bytes(block[at : at + extra], "little") + 1, at + extra


def _copy(block: bytes, tag: int, at: int) -> tuple[int, int, int]:
    """Size and distance of a copy, and the offset behind its tag."""
    kind = tag & 3
    if kind == 1:
        return (tag >> 2 & 7) + 4, (tag >> 5) << 8 | block[at], at + 1
    width = 2 if kind == 2 else 4
    if at + width > len(block):
        raise _bad("the block ends in the middle")
    return (tag >> 2) + 1, int.from_bytes(block[at : at + width], "little"), at + width


def _repeat(plain: bytearray, offset: int, size: int) -> None:
    """Append `size` bytes from `offset` back; a copy may reach into what it writes itself."""
    if not 0 < offset <= len(plain):
        raise _bad("a copy points before the beginning")
    start = len(plain) - offset
    if offset >= size:
        plain += plain[start : start + size]
        return
    pattern = bytes(plain[start:])
    plain += (pattern * (size // offset + 1))[:size]


def _bad(message: str) -> Refused:
    return Refused("bad_encoding", f"the body is no block of snappy: {message}", field="Content-Encoding")
