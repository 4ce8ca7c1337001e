"""Customers: seeded orders, several at a time, and what the gateway answered to each."""

from __future__ import annotations

import http.client
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import orjson

ARTICLES: Final = ("lamp", "chair", "desk", "kettle")
CUSTOMERS: Final = ("ada", "grace", "edsger", "barbara", "donald", "frances")
CUSTOMERS_AT_ONCE: Final = 4
ANSWER_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one customer wants."""

    order_id: str
    customer: str
    sku: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the gateway said to an order, and the trace that it did so in."""

    order: Order
    status: int
    trace_id: str  # from the X-Trace-ID header


def orders(count: int, *, seed: int, first: int = 1) -> list[Order]:
    """Make orders numbered from `first`; the same seed gives the same orders."""
    dice = random.Random(seed)
    return [
        Order(
            order_id=f"order-{number:04d}",
            customer=dice.choice(CUSTOMERS),
            sku=dice.choice(ARTICLES),
            quantity=dice.randint(1, 4),
        )
        for number in range(first, first + count)
    ]


def place(gateway_url: str, wanted: list[Order]) -> list[Answer]:
    """Place the orders, `CUSTOMERS_AT_ONCE` at a time; answers in the order of the orders."""
    with ThreadPoolExecutor(max_workers=CUSTOMERS_AT_ONCE) as customers:
        return list(customers.map(lambda order: place_one(gateway_url, order), wanted))


def place_one(gateway_url: str, order: Order) -> Answer:
    """Place one order.

    Raises:
        OSError: the gateway is not there, or silent for `ANSWER_TIMEOUT_S`.
    """
    target = urlsplit(gateway_url)
    connection = http.client.HTTPConnection(target.netloc, timeout=ANSWER_TIMEOUT_S)
    try:
        body = orjson.dumps(
            {
                "order_id": order.order_id,
                "customer": order.customer,
                "sku": order.sku,
                "quantity": order.quantity,
            }
        )
        connection.request("POST", "/orders", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        trace_id = response.getheader("X-Trace-ID") or ""
        return Answer(order=order, status=response.status, trace_id=trace_id)
    finally:
        connection.close()
