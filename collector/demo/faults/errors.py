"""Faults that raise."""

from __future__ import annotations

from typing import Final

from collector.demo.faults.model import Fault

FAULTS: Final = (
    Fault(
        name="exception",
        story="the inventory meets an article without a shelf and raises, three calls deep",
        service="inventory",
        places=("in shelf_label",),
        reached=("gateway", "orders", "inventory"),
    ),
)
