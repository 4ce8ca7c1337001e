"""`asyncio.Queue` and `asyncio.PriorityQueue`; the rules are in `deliveries`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import wraps
from types import CodeType
from typing import Any, Final

from tracing.handoff.deliveries import (
    carrying_put,
    current_delivery,
    delivering_get,
    end_delivery,
    ending_task_done,
    left_here,
)
from tracing.handoff.patch import Patch, Patches, without_our_frame

# Coroutines of others that deliver what they get: `wait_for` is to treat them as it treats `Queue.get`.
getters: Final[set[CodeType]] = set()


def _get(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def get(self: asyncio.Queue[Any]) -> Any:
        if current_delivery() is not None and not isinstance(self, asyncio.LifoQueue):
            end_delivery()
        try:
            return await original(self)
        except BaseException as error:
            without_our_frame(error)
            raise

    return get


def _get_nowait(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def get_nowait(self: asyncio.Queue[Any]) -> Any:
        if current_delivery() is not None and not isinstance(self, asyncio.LifoQueue):
            end_delivery()
        try:
            return original(self)
        except BaseException as error:
            without_our_frame(error)
            raise

    return get_nowait


def _wait_for(original: Callable[..., Any]) -> Callable[..., Any]:
    """`wait_for(queue.get(), …)` before Python 3.12 gets the item in a task of its own."""

    @wraps(original)
    async def wait_for(fut: Any, timeout: float | None) -> Any:
        code = getattr(fut, "cr_code", None)
        if not task_queues.on or (code is not asyncio.Queue.get.__code__ and code not in getters):
            return await original(fut, timeout)
        end_delivery()
        left: list[Callable[[], None]] = []
        before = left_here.get()
        left_here.set(left)
        try:
            return await original(fut, timeout)
        finally:
            left_here.set(before)
            for make in left[-1:]:
                make()

    return wait_for


task_queues: Final = Patches()
task_queues.add(
    Patch(asyncio.Queue, "_put", carrying_put(task_queues, "_queue")),
    Patch(asyncio.Queue, "_get", delivering_get(task_queues)),
    Patch(asyncio.PriorityQueue, "_put", carrying_put(task_queues, "_queue")),
    Patch(asyncio.PriorityQueue, "_get", delivering_get(task_queues)),
    Patch(asyncio.Queue, "get", _get),
    Patch(asyncio.Queue, "get_nowait", _get_nowait),
    Patch(asyncio.Queue, "task_done", ending_task_done),
    *(
        (Patch(asyncio, "wait_for", _wait_for), Patch(asyncio.tasks, "wait_for", _wait_for))
        if sys.version_info < (3, 12)
        else ()
    ),
)
