"""Faults that only cost time in one place."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from collector.demo.faults.model import Fault
from collector.demo.premises import address_of, known_address, publish_address

if TYPE_CHECKING:
    from collector.demo.shop import Shop

DETOUR: Final = "orders-detour"
CONNECT_DELAY_S: Final = 0.6


def _sleep(length_s: float, value: Any) -> Any:
    time.sleep(length_s)
    return value


def _grow(value: Any) -> Any:
    """Fill the memory with objects that the collector of garbage has to look at again and again."""
    kept: list[Any] = []
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        kept.append([{} for _ in range(1_000)])
    return value


@contextlib.contextmanager
def _slow_connections(shop: Shop) -> Iterator[None]:
    """Run a way to the orders on which every new connection waits: as if names were resolved slowly."""
    target = urlsplit(known_address("orders", shop.directory) or "")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        publish_address(DETOUR, f"http://127.0.0.1:{port}", shop=shop.directory)
        threading.Thread(
            target=_forward_all, args=(listener, target.hostname, target.port), daemon=True
        ).start()
        yield


def _forward_all(listener: socket.socket, host: str, port: int) -> None:
    with contextlib.suppress(OSError):  # the listener is closed when the episode ends
        while True:
            caller, _ = listener.accept()
            time.sleep(CONNECT_DELAY_S)
            callee = socket.create_connection((host, port))
            for source, sink in ((caller, callee), (callee, caller)):
                threading.Thread(target=_forward, args=(source, sink), daemon=True).start()


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


FAULTS: Final = (
    Fault(
        name="slow",
        story="one query of the inventory takes 0.8 s instead of 5 ms",
        service="inventory",
        places=("find stock",),
        spoils={"inventory.row": lambda row: _sleep(0.8, row)},
    ),
    Fault(
        name="event-loop-blocked",
        story="the gateway does something slow inside its event loop",
        service="gateway",
        places=("POST /orders", "POST"),
        spoils={"gateway.order": lambda order: _sleep(0.6, order)},
    ),
    Fault(
        name="slow-consumer",
        story="the payments take 0.7 s to write a receipt",
        service="payments",
        places=("write receipt",),
        spoils={"payments.code": lambda code: _sleep(0.7, code)},
    ),
    Fault(
        name="memory-growth",
        story="a payment worker fills its memory and pauses for garbage",
        service="payments",
        places=("authorise card",),
        spoils={"payments.bank": _grow},
    ),
    Fault(
        name="connect-delay",
        story="connections from the gateway to the orders take 0.6 s to come about",
        service="orders",
        also_accepted=("gateway",),  # the delay is between the two
        places=("POST",),
        spoils={"gateway.orders_url": lambda _: address_of(DETOUR)},
        around=_slow_connections,
    ),
)
