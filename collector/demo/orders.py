"""Takes orders: a WSGI application (Flask) that reserves stock over gRPC and queues the payment."""

from __future__ import annotations

import functools
import logging
import random
import threading
import time
from typing import Any, cast

import flask
import grpc
import orjson
from werkzeug.serving import make_server

import tracing
from collector.demo.broker import queue_app
from collector.demo.faults import spoiled
from collector.demo.premises import address_of, publish_address

logger = logging.getLogger("shop.orders")

CREDIT_LIMIT_CENTS = 500_000
ROUNDING = "down"
RESERVE_TRIES_MAX = 4
RETRY_AFTER_S = 0.05
DISCOUNTS = {"single": 0, "several": 10}  # percent, by size of the order
CONNECTIONS = threading.BoundedSemaphore(4)  # to the credit agency


def create_order() -> tuple[dict[str, Any], int]:
    """Check the customer, reserve the goods, queue the payment."""
    order = flask.request.get_json()
    order = spoiled("orders.order", order["order_id"], order)
    if spoiled("orders.checks_credit", order["order_id"], True):
        check_credit(order)
    try:
        for lot in spoiled("orders.lots", order["order_id"], [order]):
            reservation = reserve_stock(lot)
    except grpc.RpcError as error:
        logger.error("%s: no reservation: %s", order["order_id"], _code(error))
        return {"error": "the goods could not be reserved"}, 500
    check_reservation(order, reservation)
    total_cents = spoiled("orders.total_cents", order["order_id"], total(order, reservation))
    for _ in range(spoiled("orders.messages", order["order_id"], 1)):
        queue_app().send_task("payments.charge", args=[order["order_id"], total_cents])
        logger.info("%s: payment of %s cents queued", order["order_id"], total_cents)
    return {"order_id": order["order_id"], "total_cents": total_cents, "shelf": reservation["shelf"]}, 201


@tracing.traced("check credit")
def check_credit(order: dict[str, Any]) -> None:
    """Ask whether the customer may buy on account."""
    with spoiled("orders.connections", order["order_id"], CONNECTIONS):
        _query(0.004)
    logger.info("credit of %s is good, limit %d cents", order["customer"], CREDIT_LIMIT_CENTS)


def reserve_stock(order: dict[str, Any]) -> dict[str, Any]:
    """Reserve the goods in the inventory; tries again while that is not available.

    Raises:
        grpc.RpcError: the inventory could not.
    """
    address = spoiled("orders.inventory_address", order["order_id"], address_of("inventory"))
    deadline_s = spoiled("orders.deadline_s", order["order_id"], 30.0)
    for tries_left in reversed(range(RESERVE_TRIES_MAX)):
        try:
            answer: dict[str, Any] = _inventory(address)(order, timeout=deadline_s)
        except grpc.RpcError as error:
            if _code(error) != grpc.StatusCode.UNAVAILABLE or not tries_left:
                raise
            logger.warning("%s: inventory not available, %d tries left", order["order_id"], tries_left)
            time.sleep(RETRY_AFTER_S)
        else:
            logger.info("%s: reserved on shelf %s", order["order_id"], answer["shelf"])
            break
    return answer


def check_reservation(order: dict[str, Any], reservation: dict[str, Any]) -> None:
    """Refuse what was not ordered."""
    if reservation["sku"] != order["sku"]:
        raise ValueError(f"{order['sku']} was ordered and {reservation['sku']} reserved")


@tracing.traced("price order")
def total(order: dict[str, Any], reservation: dict[str, Any]) -> int:
    """What the customer pays, in cents."""
    _query(0.002)
    rounding = spoiled("orders.rounding", order["order_id"], ROUNDING)
    if rounding not in ("up", "down"):
        logger.warning("unknown rounding %r, taking the exact price", rounding)
    cents: int = order["quantity"] * reservation["unit_cents"]
    return cents - cents * discount_percent(order) // 100


def discount_percent(order: dict[str, Any]) -> int:
    """What an order is cheaper by; nothing when that cannot be found out."""
    discounts = spoiled("orders.discounts", order["order_id"], DISCOUNTS)
    try:
        return discounts["several" if order["quantity"] >= 3 else "single"]
    except KeyError:
        logger.warning("%s: no discount found", order["order_id"], exc_info=True)
        return 0


@functools.cache
def _inventory(address: str) -> grpc.UnaryUnaryMultiCallable:
    channel = grpc.insecure_channel(address)
    reserve: grpc.UnaryUnaryMultiCallable = channel.unary_unary(
        "/shop.Inventory/Reserve", request_serializer=orjson.dumps, response_deserializer=orjson.loads
    )
    return reserve


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code: grpc.StatusCode = cast("grpc.Call", error).code()  # every error of a call is the call, too
    return code


def _query(typical_s: float) -> None:
    """Take as long as a query to a database would."""
    time.sleep(typical_s * random.uniform(0.7, 1.5))


def main() -> None:
    """Serve until told to stop."""
    tracing.configure(service="orders", level="INFO")
    tracing.instrument()
    app = flask.Flask("orders")
    app.add_url_rule("/orders", view_func=create_order, methods=["POST"])
    server = make_server("127.0.0.1", 0, app, threaded=True)
    publish_address("orders", f"http://127.0.0.1:{server.server_port}")
    server.serve_forever()


if __name__ == "__main__":
    main()
