"""Faults in which one thing waits for another that somebody else holds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from collector.demo.faults.model import Fault

if TYPE_CHECKING:
    from collector.demo.shop import Shop

HELD_S: Final = 0.6
BURST_ORDERS: Final = 8
BURST_NUMBER: Final = 7_001


def _hold(lock: threading.Lock) -> threading.Lock:
    """Somebody else takes the lock for a while, as a stock-taking would."""
    lock.acquire()
    threading.Timer(HELD_S, lock.release).start()
    return lock


def _drain(pool: threading.Semaphore) -> threading.Semaphore:
    """Somebody else takes every connection for a while."""
    taken = 0
    while pool.acquire(blocking=False):
        taken += 1
    threading.Timer(HELD_S, pool.release, args=(taken,)).start()
    return pool


def _hog(value: Any) -> Any:
    """A thread that only computes, so that every other one waits its turn at the interpreter."""
    until = time.monotonic() + HELD_S

    def compute() -> None:
        while time.monotonic() < until:
            sum(range(50_000))

    for _ in range(4):
        threading.Thread(target=compute, daemon=True).start()
    return value


@contextlib.contextmanager
def _burst(shop: Shop) -> Iterator[None]:
    """A burst of orders whose payments take long: whoever comes next waits in the queue."""
    from collector.demo.premises import break_orders
    from collector.demo.traffic import orders, place

    burst = orders(BURST_ORDERS, seed=BURST_NUMBER, first=BURST_NUMBER)
    break_orders(shop.directory, "queue-backlog", [order.order_id for order in burst])
    place(shop.gateway_url, burst)
    yield


def _slowly(code: str) -> str:
    time.sleep(HELD_S)
    return code


FAULTS: Final = (
    Fault(
        name="lock-wait",
        story="a stock-taking holds the lock that the inventory needs to hold items",
        service="inventory",
        places=("hold items",),
        spoils={"inventory.shelves": _hold},
    ),
    Fault(
        name="pool-empty",
        story="somebody has taken every connection that the credit check could use",
        service="orders",
        places=("check credit",),
        spoils={"orders.connections": _drain},
    ),
    Fault(
        name="gil-hog",
        story="threads of the orders compute without a pause, and everything beside them waits",
        service="orders",
        places=("POST /orders", "check credit", "price order", "Reserve"),
        spoils={"orders.order": _hog},
    ),
    Fault(
        name="queue-backlog",
        story="a burst of slow payments is before this one in the queue",
        service="payments",
        places=("process payments.charge", "payments.charge"),
        spoils={"payments.code": _slowly},
        around=_burst,
        spoils_the_order=False,
    ),
)
