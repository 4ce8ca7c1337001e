"""Faults in which something that should happen does not, and nobody complains."""

from __future__ import annotations

from typing import Final

from collector.demo.faults.model import Fault

FAULTS: Final = (
    Fault(
        name="missing-step",
        story="the orders skip the credit check, without an error and without a log line",
        service="orders",
        places=("check credit",),
        reached=("gateway", "orders", "inventory", "payments"),
    ),
)
