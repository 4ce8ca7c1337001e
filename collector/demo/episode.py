"""One fault from its injection to its verdict: what the demo shows once and the tests repeat."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from collector.client import CollectorClient
from collector.demo.faults import Fault
from collector.demo.premises import break_orders
from collector.demo.shop import SERVICES, Shop, ShopFailed
from collector.demo.traffic import Order, orders, place, place_one
from collector.errors import NotFound

JsonObject = dict[str, Any]

HEALTHY_ORDERS: Final = 40  # enough to know what each step costs, few enough to wait for
FIRST_FAULTY_ORDER: Final = 9_001  # so that faulty orders are never mistaken for the healthy ones
CHAIN_TIMEOUT_S: Final = 20.0  # a record is visible about a second after it was written
_POLL_INTERVAL_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A fault that was injected, and what the collector made of it."""

    fault: Fault
    order: Order
    trace_id: str
    trace: JsonObject  # `collector.api.shapes.TraceObject`
    verdict: JsonObject  # `collector.api.shapes.VerdictObject`
    chain_is_in: bool  # False: the chain was not whole in time, and was asked about as it was

    @property
    def is_named(self) -> bool:
        """Whether the verdict names the injected service and place."""
        return self.fault.is_named_by(self.verdict)


def warm_up(shop: Shop, *, seed: int, count: int = HEALTHY_ORDERS) -> None:
    """Let healthy customers order, and return once every chain of theirs is in.

    Raises:
        ShopFailed: an order failed, or a chain did not come in within `CHAIN_TIMEOUT_S`.
    """
    answers = place(shop.gateway_url, orders(count, seed=seed))
    failed = [answer for answer in answers if answer.status != 202 or not answer.trace_id]
    if failed:
        raise ShopFailed(f"{len(failed)} of {count} healthy orders failed, for instance {failed[0]}")
    waiting = wait_for_chains(shop.client, [answer.trace_id for answer in answers], reached=SERVICES)
    if waiting:
        raise ShopFailed(f"{len(waiting)} of {count} healthy chains are not in, for instance {waiting[0]}")


def play(shop: Shop, fault: Fault, *, number: int = 0, seed: int = 1) -> Episode:
    """Inject a fault into one order, wait for its chain, and ask for the cause.

    Args:
        number: of the episode in this shop, so that each has an order of its own.
    Raises:
        ShopFailed: the gateway gave no trace id, or nothing of the trace arrived.
    """
    (order,) = orders(1, seed=seed + number, first=FIRST_FAULTY_ORDER + number)
    if fault.spoils_the_order:
        break_orders(shop.directory, fault.name, [order.order_id])
    client = shop.client
    with fault.around(shop):
        answer = place_one(shop.gateway_url, order)
        waiting = wait_for_chains(
            client, [answer.trace_id], reached=fault.reached, with_unfinished=fault.leaves_open
        )
    if not answer.trace_id:
        raise ShopFailed("the gateway's answer has no X-Trace-ID header")
    try:
        trace, verdict = client.trace(answer.trace_id), client.root_cause(answer.trace_id)
    except NotFound:
        raise ShopFailed(f"nothing of trace {answer.trace_id} has arrived") from None
    return Episode(
        fault=fault,
        order=order,
        trace_id=answer.trace_id,
        trace=trace,
        verdict=verdict,
        chain_is_in=not waiting,
    )


def wait_for_chains(
    client: CollectorClient,
    trace_ids: Iterable[str],
    *,
    reached: Collection[str],
    with_unfinished: bool = False,
) -> list[str]:
    """Wait until the chains are in; return the ids of those that are not after `CHAIN_TIMEOUT_S`."""
    deadline = time.monotonic() + CHAIN_TIMEOUT_S
    waiting = list(trace_ids)
    while True:
        waiting = [trace_id for trace_id in waiting if not _is_in(client, trace_id, reached, with_unfinished)]
        if not waiting or time.monotonic() > deadline:
            return waiting
        time.sleep(_POLL_INTERVAL_S)


def _is_in(client: CollectorClient, trace_id: str, reached: Collection[str], with_unfinished: bool) -> bool:
    try:
        trace = client.trace(trace_id)
    except NotFound:
        return False
    if trace["completeness"] == "open" or not set(reached) <= set(trace["services"]):
        return False
    return any(gap["kind"] == "unfinished" for gap in trace["gaps"]) or not with_unfinished
