"""What can go wrong in the shop: one module a group of faults, each fault with its known answer.

The shop's code passes some of its values through `spoiled`; a fault says at which of these points it does
what. Which orders meet which fault is in the shop's directory (`premises`), where only the demo looks.
"""

from __future__ import annotations

from typing import Final, TypeVar

from collector.demo.faults import contention, errors, latency, messages, processes, steps, telemetry
from collector.demo.faults.model import Fault
from collector.demo.premises import fault_of

FAULTS: Final[dict[str, Fault]] = {
    fault.name: fault
    for group in (errors, latency, processes, steps, contention, messages, telemetry)
    for fault in group.FAULTS
}
# The four that show the most; the first is the default.
MAIN_FAULTS: Final = ("exception", "slow", "crash", "missing-step")

T = TypeVar("T")


def spoiled(point: str, order_id: str, value: T) -> T:
    """Pass on a value of the shop's code, spoiled if this order is to meet a fault at this point.

    Args:
        point: `service.value`, a key of `Fault.spoils`.
        value: anything; it comes back as it is nearly always.
    """
    name = fault_of(order_id)
    spoil = FAULTS[name].spoils.get(point) if name is not None else None
    if spoil is None:
        return value
    spoilt: T = spoil(value)
    return spoilt


__all__ = ["FAULTS", "MAIN_FAULTS", "Fault", "spoiled"]
