"""What was logged survives the process: an append-only file, and the thread that ships it.

`open_spool` gives the sink that the application writes to, `start_shipper` the daemon thread that
brings its lines, and those of dead processes of the same service, to the collector. Format and promises
are ARCHITECTURE.md, "Spool" and "Native ingest".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracing.settings import NO_TLS_FILES, TlsFiles
from tracing.spool.format import LOSS_REASONS
from tracing.spool.http import checked_url
from tracing.spool.leftovers import drain
from tracing.spool.limits import ShipperLimits, SpoolLimits
from tracing.spool.shipper import Shipper
from tracing.spool.spool import Spool
from tracing.spool.tls import context_for
from tracing.spool.transport import Transport

__all__ = [
    "LOSS_REASONS",
    "Shipper",
    "ShipperLimits",
    "Spool",
    "SpoolLimits",
    "drain",
    "open_spool",
    "start_shipper",
]


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


def start_shipper(
    root: Path,
    *,
    service: str,
    url: str,
    token: str | None,
    spool: Spool,
    tls_files: TlsFiles = NO_TLS_FILES,
    limits: ShipperLimits | None = None,
) -> Shipper:
    """Start the daemon thread that ships a spool, and what dead processes of the same service left.

    Args:
        root, service: those of the spool.
        url: the collector's, `http://host:port` or `https://host:port`, with a path when it is behind one.
        token: sent as `Authorization: Bearer`; `None`: nothing is sent.
        tls_files: for `https://`.
    Raises:
        ConfigurationError: the URL or a file cannot be used.
    """
    limits = limits or ShipperLimits()
    checked_url(url)
    context_for(url, tls_files)  # a file that cannot be used stops the start, not the thread
    shipper = Shipper(spool, lambda: Transport(url, token, limits, tls_files), limits)
    shipper.start()
    return shipper
