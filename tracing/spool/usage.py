"""How much disk a service's spools take, for the bound that all its processes share, and what is left."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from tracing.spool.format import is_spool_id, segment_number

# So many spools are measured; of more, the rest is taken to be like them. A process measures before its
# first line, so this must not take long: 2 ms for 64.
SPOOLS_MEASURED_MAX: Final = 64


def service_bytes(service: Path, *, besides: str) -> int:
    """Return what the segments of a service's spools take.

    Args:
        service: the directory of the service.
        besides: id of the spool that is not counted, the caller's own.
    """
    try:
        with os.scandir(service) as entries:
            names = [entry.name for entry in entries if is_spool_id(entry.name) and entry.name != besides]
    except OSError:
        return 0
    measured = names[:SPOOLS_MEASURED_MAX]
    if not measured:
        return 0
    return sum(spool_bytes(service / name) for name in measured) * len(names) // len(measured)


def spool_bytes(directory: Path) -> int:
    """Return what the segments of one spool take."""
    total = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if segment_number(entry.name) is not None:
                    total += entry.stat().st_size
    except OSError:
        pass  # it was sent and deleted meanwhile
    return total


def free_bytes(place: int | Path) -> int:
    """Return what is free on the disk of an open file, or that a path is, or would be, on.

    Raises:
        OSError: it cannot be asked.
    """
    if isinstance(place, Path):
        while not place.exists() and place != place.parent:
            place = place.parent
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


class ServiceUsage:
    """What all spools of a service take, measured now and then; what we write in between is added to it.

    Args:
        service: the directory of the service.
        own: id of our own spool.
        interval_s: for how long a measurement is good enough. Not thread-safe.
    """

    __slots__ = ("_at_position", "_interval_s", "_measure_at_s", "_measured_bytes", "_own", "_service")

    def __init__(self, service: Path, own: str, interval_s: float) -> None:
        self._service = service
        self._own = own
        self._interval_s = interval_s
        self._measured_bytes = 0
        self._at_position = 0
        self._measure_at_s = 0.0

    @property
    def is_old(self) -> bool:
        """Whether it is time to measure again."""
        return time.monotonic() >= self._measure_at_s

    def bytes(self, position: int) -> int:
        """Return what they take, once our own spool has come to a logical offset."""
        return self._measured_bytes + position - self._at_position

    def measure(self, position: int, room_bytes: int) -> None:
        """See what they take.

        Args:
            position: logical offset of our own spool now.
            room_bytes: reserved by it and not written yet; lines will take that, not add to it.
        """
        others = service_bytes(self._service, besides=self._own)
        self._measured_bytes = others + spool_bytes(self._service / self._own) - room_bytes
        self._at_position = position
        self._measure_at_s = time.monotonic() + self._interval_s
