"""`flush` of a short-lived program: what the run before it left is brought to the collector too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tracing.spool import Spool, start_shipper
from tracing.spool.limits import ShipperLimits


def test_flush_waits_for_what_the_dead_have_left(
    open_orders: Callable[..., Spool], ingest: Any, root: Path, helpers: Any
) -> None:
    """Else a short-lived program ends before it has shipped what the run before it could not."""
    spool, neighbour = open_orders(), open_orders()
    # Small batches take many turns, and the next look of its own would be in an hour.
    limits = ShipperLimits(poll_interval_s=0.01, scan_interval_s=3600.0, batch_bytes_max=4096)
    shipper = start_shipper(root, service="orders", url=ingest.url, token=None, spool=spool, limits=limits)
    try:
        spool.write(helpers.line("now"), 9)
        assert shipper.flush(60.0)
        child = os.fork()
        if child == 0:
            for number in range(2_000):
                neighbour.write(helpers.line(f"before {number}"), 9)
            os._exit(0)
        os.waitpid(child, 0)
        assert shipper.flush(60.0)
        messages = sorted(record["message"] for record in ingest.records())
    finally:
        shipper.stop(5.0)
    assert messages == sorted(["now", *(f"before {number}" for number in range(2_000))])
