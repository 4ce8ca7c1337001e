"""Faults of whole processes: they end, or the wrong version of one runs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from collector.demo.faults.model import Fault
from collector.demo.premises import VERSION_VARIABLE, address_of

if TYPE_CHECKING:
    from collector.demo.shop import Shop

NEW_INSTANCE: Final = "inventory-new"
NEW_VERSION: Final = "2.0"
LOOP_ORDERS: Final = 3
LOOP_NUMBER: Final = 6_001


def _kill_this_process(_: Any) -> None:
    """As the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def _refuse(row: dict[str, Any]) -> dict[str, Any]:
    """What the new version does with an article that the old one knows."""
    raise LookupError(f"no table stock_v2 with aisle {row['aisle']}")


@contextlib.contextmanager
def _second_instance(shop: Shop) -> Iterator[None]:
    """Start a second inventory beside the first, which says that it is another version."""
    shop.launch(NEW_INSTANCE, "collector.demo.inventory", NEW_INSTANCE, **{VERSION_VARIABLE: NEW_VERSION})
    shop.wait_for(NEW_INSTANCE)
    try:
        yield
    finally:
        shop.end(NEW_INSTANCE)


@contextlib.contextmanager
def _earlier_crashes(shop: Shop) -> Iterator[None]:
    """Some payments before this one have killed their workers, too."""
    from collector.demo.premises import break_orders
    from collector.demo.traffic import orders, place_one

    doomed = orders(LOOP_ORDERS, seed=LOOP_NUMBER, first=LOOP_NUMBER)
    break_orders(shop.directory, "crash-loop", [order.order_id for order in doomed])
    for order in doomed:
        place_one(shop.gateway_url, order)
    yield


FAULTS: Final = (
    Fault(
        name="crash",
        story="a payment worker is killed with SIGKILL while it waits for the bank",
        service="payments",
        places=("authorise card",),
        spoils={"payments.bank": _kill_this_process},
        leaves_open=True,
    ),
    Fault(
        name="crash-loop",
        story="one payment worker after the other is killed while it waits for the bank",
        service="payments",
        places=("authorise card",),
        spoils={"payments.bank": _kill_this_process},
        around=_earlier_crashes,
        leaves_open=True,
    ),
    Fault(
        name="bad-deploy",
        story="one of two instances of the inventory runs a version that cannot read its table",
        service="inventory",
        places=("find stock", "Reserve", "in find_stock"),
        spoils={
            "orders.inventory_address": lambda _: address_of(NEW_INSTANCE),
            "inventory.row": _refuse,
        },
        around=_second_instance,
        reached=("gateway", "orders", "inventory"),
    ),
)
