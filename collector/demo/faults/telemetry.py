"""Nothing is wrong with the shop, only with what is known of it: no cause may be named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from collector.demo.faults.model import Fault
from collector.demo.premises import address_of, break_orders
from collector.demo.skewed import AHEAD_VARIABLE

if TYPE_CHECKING:
    from collector.demo.shop import Shop

SKEWED: Final = "inventory-skewed"
SILENT: Final = "inventory-silent"
SKEW_S: Final = 37
FAULT_OF: Final = {SKEWED: "clock-skew", SILENT: "telemetry-loss"}
FIRST_NUMBER: Final = 5_001


@contextlib.contextmanager
def _instance(shop: Shop, name: str, *command: str, **environment: str) -> Iterator[None]:
    """Run another inventory under this name, with one order behind it: a first connection takes its time."""
    from collector.demo.traffic import orders, place_one

    shop.launch(name, *command, "collector.demo.inventory", name, **environment)
    shop.wait_for(name)
    (first,) = orders(1, seed=FIRST_NUMBER, first=FIRST_NUMBER)
    break_orders(shop.directory, FAULT_OF[name], [first.order_id])
    place_one(shop.gateway_url, first)
    try:
        yield
    finally:
        shop.end(name)


FAULTS: Final = (
    Fault(
        name=FAULT_OF[SKEWED],
        story=f"the clock of one inventory is {SKEW_S} s ahead; the shop itself is well",
        service=None,
        spoils={"orders.inventory_address": lambda _: address_of(SKEWED)},
        around=lambda shop: _instance(shop, SKEWED, "collector.demo.skewed", **{AHEAD_VARIABLE: str(SKEW_S)}),
    ),
    Fault(
        name=FAULT_OF[SILENT],
        story="one inventory sends no telemetry; the shop itself is well",
        service=None,
        spoils={"orders.inventory_address": lambda _: address_of(SILENT)},
        around=lambda shop: _instance(shop, SILENT, TRACING_ENABLED="false"),
        reached=("gateway", "orders", "payments"),
    ),
)
