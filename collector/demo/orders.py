"""Takes orders: a WSGI application (Flask) that reserves stock over gRPC and queues the payment."""

from __future__ import annotations

import functools
import logging
import random
import time
from typing import Any

import flask
import grpc
import orjson
from werkzeug.serving import make_server

import tracing
from collector.demo.broker import queue_app
from collector.demo.premises import address_of, broken, end_with_parent, publish_address

logger = logging.getLogger("shop.orders")

CREDIT_LIMIT_CENTS = 500_000


def create_order() -> tuple[dict[str, Any], int]:
    """Check the customer, reserve the goods, queue the payment."""
    order = flask.request.get_json()
    if not broken("missing-step", order["order_id"]):
        check_credit(order)
    try:
        reservation = reserve_stock(order)
    except grpc.RpcError as error:
        logger.error("%s: no reservation: %s", order["order_id"], error.code())
        return {"error": "the goods could not be reserved"}, 500
    total_cents = total(order, reservation)
    queue_app().send_task("payments.charge", args=[order["order_id"], total_cents])
    logger.info("%s: payment of %d cents queued", order["order_id"], total_cents)
    return {"order_id": order["order_id"], "total_cents": total_cents, "shelf": reservation["shelf"]}, 201


@tracing.traced("check credit")
def check_credit(order: dict[str, Any]) -> None:
    """Ask whether the customer may buy on account."""
    _query(0.004)
    logger.info("credit of %s is good, limit %d cents", order["customer"], CREDIT_LIMIT_CENTS)


def reserve_stock(order: dict[str, Any]) -> dict[str, Any]:
    """Reserve the goods in the inventory.

    Raises:
        grpc.RpcError: the inventory could not.
    """
    answer: dict[str, Any] = _inventory()(order, timeout=30)
    logger.info("%s: reserved on shelf %s", order["order_id"], answer["shelf"])
    return answer


@tracing.traced("price order")
def total(order: dict[str, Any], reservation: dict[str, Any]) -> int:
    """What the customer pays, in cents."""
    _query(0.002)
    cents = order["quantity"] * reservation["unit_cents"]
    return cents - cents // 10 if order["quantity"] >= 3 else cents


@functools.cache
def _inventory() -> grpc.UnaryUnaryMultiCallable:
    channel = grpc.insecure_channel(address_of("inventory"))
    return channel.unary_unary(
        "/shop.Inventory/Reserve", request_serializer=orjson.dumps, response_deserializer=orjson.loads
    )


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
    end_with_parent()
    main()
