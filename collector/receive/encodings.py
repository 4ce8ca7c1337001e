"""Packed request bodies -> plain ones, never longer than a limit. Pure.

A few kilobytes can unpack to gigabytes; every way here stops at the limit, not after it.
"""

from __future__ import annotations

import zlib
from typing import Final

import zstandard

from collector.errors import Refused

ENCODINGS: Final = ("gzip", "deflate", "zstd", "identity")

# zstandard's streaming interface has no bound on what one call gives back. A block of 4 bytes can stand
# for 128 KiB, so pieces of this size unpack to at most 16 MiB at once.
_ZSTD_PIECE_BYTES: Final = 512
# What `zstd --long=27` needs; frames that want more memory are refused.
_ZSTD_WINDOW_BYTES_MAX: Final = 128 * 1024**2


def unpacked(body: bytes, encoding: str | None, *, bytes_max: int) -> bytes:
    """Undo a `Content-Encoding`.

    Args:
        body: as it came.
        encoding: the header's value; None or empty: not packed.
        bytes_max: longest plain body.
    Raises:
        Refused: `unsupported_encoding`, `bad_encoding` (damaged or cut off) or `body_too_large`.
    """
    name = (encoding or "identity").strip().lower()
    match name.removeprefix("x-"):
        case "identity" | "":
            plain = body
        case "gzip":
            plain = _inflated(body, zlib.MAX_WBITS | 16, bytes_max)
        case "deflate":
            plain = _inflated(body, zlib.MAX_WBITS, bytes_max)
        case "zstd":
            plain = _unzstd(body, bytes_max)
        case _:
            raise Refused(
                "unsupported_encoding",
                f"Content-Encoding: {name[:64]!r}: one of {', '.join(ENCODINGS)} is expected",
                field="Content-Encoding",
            )
    if len(plain) > bytes_max:
        raise _too_large(bytes_max)
    return plain


def _inflated(body: bytes, wbits: int, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    room = bytes_max + 1
    rest = body
    try:
        while room > 0:
            inflater = zlib.decompressobj(wbits)
            part = inflater.decompress(rest, room)
            parts.append(part)
            room -= len(part)
            if not inflater.eof:
                if inflater.unconsumed_tail or room <= 0:
                    raise _too_large(bytes_max)
                raise _bad("the body ends in the middle")
            rest = inflater.unused_data
            if not rest.strip(b"\0"):  # gzip allows several members, and zeroes behind the last
                break
    except zlib.error as error:
        raise _bad(str(error)) from None
    return b"".join(parts)


def _unzstd(body: bytes, bytes_max: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    try:
        size = zstandard.get_frame_parameters(body).content_size
        if size not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
            if size > bytes_max:
                raise _too_large(bytes_max)
            if zstandard.frame_header_size(body) < len(body):
                try:
                    return decompressor.decompress(body, max_output_size=bytes_max, allow_extra_data=False)
                except zstandard.ZstdError:
                    pass  # several frames, or damage: the long way knows
        return _unzstd_in_pieces(decompressor, body, bytes_max)
    except zstandard.ZstdError as error:
        raise _bad(str(error)) from None


def _unzstd_in_pieces(decompressor: zstandard.ZstdDecompressor, body: bytes, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    room = bytes_max
    frame = decompressor.decompressobj()
    at = 0
    while at < len(body):
        piece = body[at : at + _ZSTD_PIECE_BYTES]
        part = frame.decompress(piece)
        parts.append(part)
        room -= len(part)
        if room < 0:
            raise _too_large(bytes_max)
        at += len(piece)
        if frame.eof:
            at -= len(frame.unused_data)
            if at < len(body):
                frame = decompressor.decompressobj()
    if not frame.eof:
        raise _bad("the body ends in the middle")
    return b"".join(parts)


def _bad(message: str) -> Refused:
    return Refused("bad_encoding", f"the body cannot be unpacked: {message}", field="Content-Encoding")


def _too_large(bytes_max: int) -> Refused:
    return Refused("body_too_large", f"the body is longer than {bytes_max} bytes when unpacked")
