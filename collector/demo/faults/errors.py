"""Faults that raise."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from collector.demo.faults.model import Fault

if TYPE_CHECKING:
    import grpc


def _without_shelf(row: dict[str, Any]) -> dict[str, Any]:
    """As if the article had been moved and the new place not been entered."""
    return {key: value for key, value in row.items() if key != "shelf"}


def _another_article(row: dict[str, Any]) -> dict[str, Any]:
    """As if a cache had been filled under the wrong key."""
    return {**row, "sku": "vase", "unit_cents": 1}


def _unavailable(context: grpc.ServicerContext) -> None:
    import grpc  # only the service that has it loaded already gets here

    context.abort(grpc.StatusCode.UNAVAILABLE, "stock-taking, come back later")


def _dead_address(_: str) -> str:
    """An address at which nobody listens: as if the inventory were down."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


FAULTS: Final = (
    Fault(
        name="exception",
        story="the inventory meets an article without a shelf and raises, three calls deep",
        service="inventory",
        places=("in shelf_label",),
        spoils={"inventory.row": _without_shelf},
        reached=("gateway", "orders", "inventory"),
    ),
    Fault(
        name="swallowed-exception",
        story="the orders fail to look up a discount, swallow the exception and charge the full price",
        service="orders",
        places=("in discount_percent", "price order"),
        spoils={"orders.discounts": lambda _: {}},
    ),
    Fault(
        name="wrong-cache",
        story="the inventory answers with another article's row, and the orders refuse it",
        service="inventory",
        also_accepted=("orders",),  # who raises; that the row is wrong is in nobody's telemetry
        places=("find stock", "Reserve", "in check_reservation"),
        spoils={"inventory.row": _another_article},
        reached=("gateway", "orders", "inventory"),
    ),
    Fault(
        name="retry-storm",
        story="the inventory is not available, and the orders try again and again",
        service="inventory",
        places=("Reserve",),
        spoils={"inventory.context": _unavailable},
        reached=("gateway", "orders", "inventory"),
    ),
    Fault(
        name="short-timeout",
        story="the orders wait 2 ms for an inventory that needs ten",
        service="orders",
        places=("Reserve", "in reserve_stock"),
        spoils={"orders.deadline_s": lambda _: 0.002},
        reached=("gateway", "orders"),
    ),
    Fault(
        name="dependency-down",
        story="nobody listens where the orders look for the inventory",
        service="inventory",
        also_accepted=("orders",),  # the only one whose records can tell
        places=("Reserve", "in reserve_stock"),
        spoils={"orders.inventory_address": _dead_address},
        reached=("gateway", "orders"),
    ),
)
