"""What was logged survives the process: an append-only file, and the thread that ships it.

`open_spool` gives the sink that the application writes to, `start_shipper` the daemon thread that
brings its lines, and those of dead processes of the same service, to the collector. Format and promises
are ARCHITECTURE.md, "Spool" and "Native ingest".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracing.spool.format import LOSS_REASONS
from tracing.spool.limits import ShipperLimits, SpoolLimits
from tracing.spool.spool import Spool

__all__ = ["LOSS_REASONS", "ShipperLimits", "Spool", "SpoolLimits", "open_spool"]


def open_spool(
    root: Path, *, service: str, resource: Mapping[str, Any], limits: SpoolLimits | None = None
) -> Spool:
    """Return the sink for this process's lines; nothing is on disk before the first line.

    Args:
        root: the spool directory; made when absent, mode 0700.
        service: name under which adopters find what this process leaves.
        resource: attributes of the process, in each segment's header; `process.pid` is kept right.
    """
    return Spool(root, service=service, resource=resource, limits=limits)
