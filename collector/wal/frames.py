"""A batch of record lines <-> frames of bytes. Pure: no files, no clock.

A frame on disk, all numbers little-endian:

    magic 4 | payload bytes u32 | first seq u64 | lines u32 | CRC-32 u32 | payload

The checksum covers everything but itself. The payload is one JSON line (`Envelope`: what the lines
share) and the record lines as they came. The magic begins with 0xFF, a byte that UTF-8 never uses, so
that a search for the next frame after damage cannot be deceived by a payload.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from collector.admit.notes import Close, Loss

MAGIC: Final = b"\xffBW1"  # the last character is the format's version
HEAD: Final = struct.Struct("<4sIQII")
_CHECKED: Final = struct.Struct("<4sIQI")  # the head without its checksum

# No frame of ours is larger: the longest line, its envelope and room for a resource. A length beyond
# it is damage, and is not worth an attempt to read.
FRAME_BYTES_MAX: Final = 1024**2
_WINDOW_BYTES: Final = 4 * FRAME_BYTES_MAX  # read at once


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the lines of a batch share, and all that the ledger has to know about them.

    A line's identity is `<origin>-<position>`. In a spool (`digest` is None) the position is the
    logical byte offset of the line; in a request of a foreign sender it is the line's index. Lines that
    are `named` carry their identity themselves.
    """

    received_ns: int  # this collector's clock
    resource: dict[str, Any] = {}
    origin: str | None = None  # 32 hex: the spool id, or the id of a foreign request
    digest: str | None = None  # of a foreign request's body: how its repetition is known
    first: int = 0  # position of the first line
    end: int = 0  # position behind the last line; what was refused in between counts as done
    jumps: list[
        tuple[int, int]
    ] = []  # (index of a line, how much further on it is than the line before ends)
    named: bool = False  # each line has the key `uid`
    check_uids: bool = False  # the sender may repeat itself: look each uid up before storing
    first_written_ns: int = 0  # when the sender wrote the first and the last line of the batch; 0: not known
    last_written_ns: int = 0
    # Facts about the whole batch; they travel with its last frame.
    complete: bool = False  # a foreign request is in the log with all it has
    parent: str | None = None  # spool id of the process that forked this one
    refused: dict[str, int] = {}  # lines by reason
    mended: dict[str, int] = {}
    losses: list[Loss] = []
    close: Close | None = None


class WalBatch(msgspec.Struct, frozen=True):
    """Record lines of one sender, each with its newline, about to be appended.

    Without lines it still carries what its envelope says, for instance that everything was refused.
    """

    envelope: Envelope
    lines: bytes = b""


class WalFrame(msgspec.Struct, frozen=True):
    """A part of a batch as it was read back."""

    first_seq: int  # of the first line; a frame without lines has a number of its own
    count: int  # lines
    envelope: Envelope
    lines: bytes

    @property
    def last_seq(self) -> int:
        """The highest sequence number that belongs to this frame."""
        return self.first_seq + max(self.count, 1) - 1

    def split(self) -> list[bytes]:
        """The lines, without their newlines."""
        return self.lines.split(b"\n")[:-1]

    def uids(self) -> list[str] | None:
        """The identity of each line, in order; `None`: each line carries its own."""
        envelope = self.envelope
        if envelope.named or envelope.origin is None:
            return None
        position, prefix = envelope.first, envelope.origin + "-"
        if envelope.digest is not None and not envelope.jumps:
            return [f"{prefix}{index}" for index in range(position, position + self.count)]
        jumps = dict(envelope.jumps)
        uids = []
        for index, line in enumerate(self.split()):
            position += jumps.get(index, 0)
            uids.append(f"{prefix}{position}")
            position += len(line) + 1 if envelope.digest is None else 1
        return uids


_envelopes: Final = msgspec.json.Encoder()
_envelope_decoder: Final = msgspec.json.Decoder(Envelope)


class Cut(msgspec.Struct, frozen=True):
    """A frame that has no place yet: only its sequence number is missing."""

    count: int
    envelope: Envelope
    lines: bytes
    payload: bytes
    payload_crc: int

    @property
    def numbers(self) -> int:
        """How many sequence numbers it takes."""
        return max(self.count, 1)

    def at(self, first_seq: int) -> tuple[bytes, bytes]:
        """The frame's head and payload, ready to be written one behind the other."""
        checked = _CHECKED.pack(MAGIC, len(self.payload), first_seq, self.count)
        crc = zlib.crc32(checked, self.payload_crc)
        return checked + crc.to_bytes(4, "little"), self.payload

    def placed(self, first_seq: int) -> WalFrame:
        """The frame as a reader will see it."""
        return WalFrame(first_seq, self.count, self.envelope, self.lines)


def cut(batch: WalBatch, *, frame_bytes_max: int) -> list[Cut]:
    """Cut a batch into frames whose payload is at most `frame_bytes_max` bytes.

    A line that does not fit has a frame to itself, so that damage costs either one line or one frame.
    """
    envelope, data = batch.envelope, batch.lines
    plain = msgspec.structs.replace(
        envelope, complete=False, parent=None, refused={}, mended={}, losses=[], close=None, jumps=[]
    )
    room = max(frame_bytes_max - len(_envelopes.encode(plain)) - 64, 1)
    if envelope.jumps:
        room = room * 3 // 4  # the rest is for as many jumps as there are lines
    frames: list[Cut] = []
    start, index, position = 0, 0, envelope.first
    pending = list(envelope.jumps)
    while True:
        end = _cut_end(data, start, room)
        count = data.count(b"\n", start, end)
        jumps = [(at - index, by) for at, by in pending if at < index + count]
        pending = pending[len(jumps) :]
        after = position + sum(by for _, by in jumps) + (end - start if envelope.digest is None else count)
        if pending and pending[0][0] == index + count and pending[0][1] < 0:
            # The last line grew when it was mended: the next one begins before the end of what is kept,
            # and the frame must not settle what is not in it.
            after += pending.pop(0)[1]
        last = end == len(data)
        frames.append(
            _cut_of(
                msgspec.structs.replace(
                    envelope if last else plain,
                    first=position,
                    end=envelope.end if last else after,
                    jumps=jumps,
                    complete=last and envelope.complete,
                ),
                data if last and not start else data[start:end],
                count,
            )
        )
        if last:
            return frames
        start, index, position = end, index + count, after


def _cut_end(data: bytes, start: int, room: int) -> int:
    if len(data) - start <= room:
        return len(data)
    end = data.rfind(b"\n", start, start + room) + 1
    return end if end > start else data.find(b"\n", start) + 1


def _cut_of(envelope: Envelope, lines: bytes, count: int) -> Cut:
    payload = b"%b\n%b" % (_envelopes.encode(envelope), lines)
    return Cut(count, envelope, lines, payload, zlib.crc32(payload))


class Damage(msgspec.Struct, frozen=True):
    """Bytes that are no frame, with a whole frame behind them."""

    offset: int
    size: int


def parse(data: bytes, offset: int) -> tuple[WalFrame, int] | None:
    """Read the frame that begins at an offset.

    Returns:
        The frame and the offset behind it; `None`: no whole, undamaged frame begins here.
    """
    body = offset + HEAD.size
    if len(data) < body:
        return None
    magic, payload_bytes, first_seq, count, crc = HEAD.unpack_from(data, offset)
    end = body + payload_bytes
    if magic != MAGIC or payload_bytes > FRAME_BYTES_MAX or len(data) < end:
        return None
    payload = data[body:end]
    if zlib.crc32(data[offset : offset + _CHECKED.size], zlib.crc32(payload)) != crc:
        return None
    head, _, lines = payload.partition(b"\n")
    try:
        envelope = _envelope_decoder.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # the checksum is right, so we did not write this: nothing to be read here
    return WalFrame(first_seq, count, envelope, lines), end


def scan(read: Callable[[int, int], bytes], start: int, end: int) -> Iterator[tuple[WalFrame, int] | Damage]:
    """Read frame after frame; after damage, go on at the next magic that begins a whole frame.

    What follows the last whole frame is not reported: it is the tail, torn or not yet written.

    Args:
        read: `(offset, size)` -> at most so many bytes, as of a file.
        start: offset to begin at.
        end: offset to stop at; nothing behind it is looked at.
    Returns:
        Each frame with the offset behind it, and each stretch of damage once it is passed.
    """
    offset, bad_from = start, -1
    window, base = b"", start
    while offset < end:
        needed = min(offset + HEAD.size + FRAME_BYTES_MAX, end)
        if base + len(window) < needed:
            window, base = read(offset, min(_WINDOW_BYTES, end - offset)), offset
            if not window:
                return  # the file is shorter than we were told
        found = parse(window, offset - base)
        if found is not None:
            if bad_from >= 0:
                yield Damage(bad_from, offset - bad_from)
                bad_from = -1
            offset = base + found[1]
            yield found[0], offset
            continue
        if bad_from < 0:
            bad_from = offset
        at = window.find(MAGIC, offset - base + 1)
        # a magic may lie across the window's edge
        offset = base + at if at >= 0 else max(base + len(window) - len(MAGIC) + 1, offset + 1)
