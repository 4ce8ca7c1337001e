"""Faults that end a process."""

from __future__ import annotations

from typing import Final

from collector.demo.faults.model import Fault

FAULTS: Final = (
    Fault(
        name="crash",
        story="a payment worker is killed with SIGKILL while it waits for the bank",
        service="payments",
        places=("authorise card",),
        reached=("gateway", "orders", "inventory", "payments"),
        leaves_open=True,
    ),
)
