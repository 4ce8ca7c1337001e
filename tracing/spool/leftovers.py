"""Ships what lies in spool directories: of one service, or of a whole root until nothing is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tracing.errors import RetryableExportError
from tracing.spool.adoption import Claim, services, spools
from tracing.spool.courier import Carrier, Courier
from tracing.spool.limits import ShipperLimits

UNSENT_POLL_S = 0.1  # how often a spool that somebody else ships is looked at again


def ship_left(service: Path, courier: Courier) -> bool:
    """Give each spool of a service that nobody else ships one turn, the oldest first.

    Returns:
        Whether everything was sent that may be sent from here.
    Raises:
        RetryableExportError: the collector is not to be asked again before `retry_after_s`.
    """
    is_all_done = True
    for path in spools(service):
        claim = Claim.try_claim(path)
        if claim is None:
            continue
        try:
            is_all_sent = courier.ship(claim)
            is_all_done &= claim.tidy(is_all_sent=is_all_sent)
        finally:
            claim.release()
    return is_all_done


def drain(
    root: Path,
    carrier: Carrier,
    *,
    timeout_s: float,
    failures_max: int | None = None,
    limits: ShipperLimits | None = None,
    tell: Callable[[RetryableExportError], object] | None = None,
) -> bool:
    """Ship what is left under a spool root, of all services, until nothing is or the time is up.

    Spools of living processes that ship for themselves are not waited for.

    Args:
        failures_max: so many failures in a row, and the collector is taken to be away; `None`: it is
            asked again until the time is up.
        carrier: is closed in the end.
        tell: is called with each failure.
    Returns:
        Whether nothing is left that could be shipped from here.
    """
    deadline_s = time.monotonic() + timeout_s
    courier = Courier(carrier, limits or ShipperLimits())
    failures = 0
    try:
        while True:
            wait_s = 0.0
            try:
                done = [ship_left(service, courier) for service in services(root)]
                if all(done):
                    return True
            except RetryableExportError as error:
                wait_s = error.retry_after_s or UNSENT_POLL_S
                failures += 1
                if tell is not None:
                    tell(error)
            else:
                failures = 0
            if failures == failures_max or deadline_s - time.monotonic() <= wait_s:
                return False
            time.sleep(wait_s)
    finally:
        courier.close()
