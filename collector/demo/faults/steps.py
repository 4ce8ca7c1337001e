"""Faults in which the shop takes another way than usual, and nobody complains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from collector.demo.faults.model import Fault

if TYPE_CHECKING:
    from collector.demo.shop import Shop

USUAL_ROUNDING: Final = "down"
BAD_ROUNDING: Final = "dwon"


@contextlib.contextmanager
def _flag_switched(shop: Shop) -> Iterator[None]:
    """Whoever switches the flag tells the collector, and so when it is set back."""
    tell = shop.client.changes.record
    tell("flag", "orders", name="rounding", old=USUAL_ROUNDING, new=BAD_ROUNDING)
    try:
        yield
    finally:
        tell("flag", "orders", name="rounding", old=BAD_ROUNDING, new=USUAL_ROUNDING)


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
        spoils={"orders.rounding": lambda _: BAD_ROUNDING},
        around=_flag_switched,
    ),
)
