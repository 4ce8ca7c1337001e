"""Keeps the stock: a gRPC server whose messages are JSON, so that nobody has to generate code."""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import orjson

import tracing
from collector.demo.faults import spoiled
from collector.demo.premises import VERSION_VARIABLE, publish_address

logger = logging.getLogger("shop.inventory")

STOCK: dict[str, dict[str, Any]] = {
    "lamp": {"aisle": "A", "shelf": 4, "unit_cents": 3_900},
    "chair": {"aisle": "B", "shelf": 11, "unit_cents": 12_900},
    "desk": {"aisle": "B", "shelf": 2, "unit_cents": 34_900},
    "kettle": {"aisle": "C", "shelf": 7, "unit_cents": 4_500},
}

USUAL_VERSION = "1.0"
SHELVES = threading.Lock()  # whoever changes what lies on them holds it


def reserve(order: dict[str, Any], context: grpc.ServicerContext) -> dict[str, Any]:
    """Find the goods, hold them for the order, and say where they are."""
    spoiled("inventory.context", order["order_id"], context)
    row = find_stock(order["sku"], order["order_id"])
    shelf = shelf_label(row)
    hold(order)
    return {"sku": row["sku"], "shelf": shelf, "unit_cents": row["unit_cents"]}


@tracing.traced("find stock")
def find_stock(sku: str, order_id: str) -> dict[str, Any]:
    """The row of an article."""
    _query(0.005)
    row = spoiled("inventory.row", order_id, {"sku": sku, **STOCK[sku]})
    logger.info("%s found in aisle %s", sku, row["aisle"])
    return row


def shelf_label(row: dict[str, Any]) -> str:
    """Where a picker finds the article, as it is written on the shelf."""
    return f"{row['aisle']}-{row['shelf']:02d}"


@tracing.traced("hold items")
def hold(order: dict[str, Any]) -> None:
    """Keep the goods for this order."""
    with spoiled("inventory.shelves", order["order_id"], SHELVES):
        _query(0.003)
    logger.info("holding %d x %s for %s", order["quantity"], order["sku"], order["order_id"])


def _query(typical_s: float) -> None:
    """Take as long as a query to a database would."""
    time.sleep(typical_s * random.uniform(0.7, 1.5))


def main(name: str = "inventory") -> None:
    """Serve until told to stop, under this name in the shop's directory."""
    tracing.configure(service="inventory", level="INFO")
    tracing.instrument()
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    method = grpc.unary_unary_rpc_method_handler(
        reserve, request_deserializer=orjson.loads, response_serializer=orjson.dumps
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("shop.Inventory", {"Reserve": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    if deployed := os.environ.get(VERSION_VARIABLE):
        tracing.record_change("deployment", "inventory", old=USUAL_VERSION, new=deployed)
    publish_address(name, f"127.0.0.1:{port}")
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
