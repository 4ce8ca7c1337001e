"""Faults in which the shop takes another way than usual, and nobody complains."""

from __future__ import annotations

from typing import Final

from collector.demo.faults.model import Fault

FAULTS: Final = (
    Fault(
        name="missing-step",
        story="the orders skip the credit check, without an error and without a log line",
        service="orders",
        places=("check credit",),
        spoils={"orders.checks_credit": lambda _: False},
    ),
    Fault(
        name="n-plus-one",
        story="the orders reserve every single piece on its own",
        service="orders",
        places=("Reserve", "POST /orders"),
        spoils={"orders.lots": lambda lots: lots * 8},
    ),
    Fault(
        name="bad-flag",
        story="the orders' flag for rounding has a value that they do not know",
        service="orders",
        places=("price order", "unknown rounding"),
        spoils={"orders.rounding": lambda _: "dwon"},
    ),
)
