"""Losses that no loss line has told yet, in a small file beside the segments, where SIGKILL cannot take them.

A loss line stands for many losses, so it comes a second after the first of them, near the bound a minute.
Until then the count is here: the owner rewrites the file in place with each loss, and empties it once the
lines are written; who adopts a dead spool tells what is left.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zlib import crc32

from tracing.spool.format import LOSS_REASONS
from tracing.spool.losses import Loss

UNTOLD_FILE: Final = "untold"  # made by the first loss: most processes have none
FILE_MODE: Final = 0o600
# Always as long: one entry a reason, each at most 80 bytes, and the checksum. A shorter one would leave the
# end of the one before behind it.
UNTOLD_BYTES: Final = 1024


def untold_text(losses: Sequence[Loss]) -> bytes:
    """Write what stands in the file: a line a loss, a checksum, and blanks."""
    lines = b"".join(b"%s %d %d %d\n" % (it.reason.encode(), it.count, it.begin, it.end) for it in losses)
    return (b"%s%08x\n" % (lines, crc32(lines))).ljust(UNTOLD_BYTES)


def read_untold(text: bytes) -> list[Loss]:
    """Return what `untold_text` was given; none for anything else, also for what is half written."""
    *lines, checksum = text.rstrip(b" ").split(b"\n")[:-1] or [b""]
    whole = b"".join(line + b"\n" for line in lines)
    if checksum != b"%08x" % crc32(whole):
        return []
    losses = []
    for line in lines:
        reason, *numbers = line.decode("ascii", "replace").split(" ")
        if reason in LOSS_REASONS and len(numbers) == 3 and all(number.isdigit() for number in numbers):
            count, begin, end = map(int, numbers)
            losses.append(Loss(reason, count, begin, end))
    return losses


def keep_untold(directory: Path, losses: Sequence[Loss]) -> None:
    """Put losses in place of those before.

    Opened each time: a descriptor that is kept might be somebody else's file by the next loss, in a program
    that closes all it did not open itself.

    Raises:
        OSError: there is no such directory, or no room.
    """
    fd = os.open(directory / UNTOLD_FILE, os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), FILE_MODE)
    try:
        os.pwrite(fd, untold_text(losses), 0)
    finally:
        os.close(fd)


def untold(directory: Path) -> list[Loss]:
    """Return the losses that a spool's owner has not told; none when nobody knows of any."""
    try:
        return read_untold((directory / UNTOLD_FILE).read_bytes())
    except OSError:
        return []
