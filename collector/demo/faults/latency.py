"""Faults that only cost time."""

from __future__ import annotations

from typing import Final

from collector.demo.faults.model import Fault

FAULTS: Final = (
    Fault(
        name="slow",
        story="one query of the inventory takes 0.8 s instead of 5 ms",
        service="inventory",
        places=("find stock",),
        reached=("gateway", "orders", "inventory", "payments"),
    ),
)
