"""What the shop's processes share: who listens where, and what is broken just now.

The shop's directory is its service registry (a service writes its address, the others read it) and holds
the one file that says what is broken. Only the demo knows of that file: no fault leaves a mark in a
header, a log line or an attribute that the diagnosis could read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import orjson

DIRECTORY_VARIABLE: Final = "SHOP_DIRECTORY"
VERSION_VARIABLE: Final = "SHOP_VERSION"  # of a service that was just deployed: it tells of it
QUEUE_FOLDER: Final = "queue"
START_TIMEOUT_S: Final = 30.0  # a starved machine imports Celery in several seconds

_DEFECTS_FILE: Final = "defects.json"
_POLL_INTERVAL_S: Final = 0.02


def directory() -> Path:
    """The directory of the shop that this process belongs to."""
    return Path(os.environ[DIRECTORY_VARIABLE])


def publish_address(service: str, address: str, *, shop: Path | None = None) -> None:
    """Say where a service listens, once it does."""
    _write_whole((shop or directory()) / f"{service}.address", address.encode())


def address_of(service: str) -> str:
    """Where a service listens; waits for one that is still starting.

    Raises:
        TimeoutError: it has not said so within `START_TIMEOUT_S`.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while (address := known_address(service, directory())) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{service} has published no address in {directory()}")
        time.sleep(_POLL_INTERVAL_S)
    return address


def known_address(service: str, shop: Path) -> str | None:
    """Where a service of a shop listens, `None` while it has not said so."""
    try:
        return (shop / f"{service}.address").read_text()
    except FileNotFoundError:
        return None


def break_orders(shop: Path, fault: str, order_ids: Iterable[str]) -> None:
    """Let some orders of a shop meet a fault from now on; what other orders meet stays as it is."""
    _write_whole(shop / _DEFECTS_FILE, orjson.dumps(_defects(shop) | dict.fromkeys(order_ids, fault)))


def fault_of(order_id: str) -> str | None:
    """The fault that an order is to meet, by its name; `None` for nearly all."""
    return _defects(directory()).get(order_id)


def _defects(shop: Path) -> dict[str, str]:
    try:
        defects: dict[str, str] = orjson.loads((shop / _DEFECTS_FILE).read_bytes())
    except FileNotFoundError:
        return {}
    return defects


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(path)
