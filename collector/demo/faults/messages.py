"""Faults on the way through the queue."""

from __future__ import annotations

from typing import Final

from collector.demo.faults.model import Fault

FAULTS: Final = (
    Fault(
        name="missing-message",
        story="the orders never send the payment",
        service="orders",
        places=("payments.charge", "POST /orders"),
        spoils={"orders.messages": lambda _: 0},
        reached=("gateway", "orders", "inventory"),
    ),
    Fault(
        name="duplicate-message",
        story="the orders send the payment twice",
        service="orders",
        places=("payments.charge", "POST /orders"),
        spoils={"orders.messages": lambda _: 2},
    ),
    Fault(
        name="poison-message",
        story="the orders send an amount that is no number, and the payments fail on it",
        service="payments",
        also_accepted=("orders",),  # who wrote the message
        places=("in charge", "payments.charge"),
        spoils={"orders.total_cents": lambda cents: f"{cents} cents"},
    ),
)
