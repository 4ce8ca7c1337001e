"""What can go wrong in the shop: one module a group of faults, each fault with its known answer."""

from __future__ import annotations

from typing import Final

from collector.demo.faults import errors, latency, processes, steps
from collector.demo.faults.model import Fault

FAULTS: Final[dict[str, Fault]] = {
    fault.name: fault
    for group in (errors.FAULTS, latency.FAULTS, processes.FAULTS, steps.FAULTS)
    for fault in group
}

__all__ = ["FAULTS", "Fault"]
