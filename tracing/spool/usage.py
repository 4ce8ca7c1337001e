"""How much disk a service's spools take, for the bound that all its processes share, and what is left."""

from __future__ import annotations

import os
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
