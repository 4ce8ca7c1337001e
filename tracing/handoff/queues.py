"""`queue.Queue` and `queue.PriorityQueue`; the rules are in `deliveries`.

`queue.SimpleQueue` is written in C and cannot be patched.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from tracing.handoff.deliveries import (
    carrying_put,
    current_delivery,
    delivering_get,
    end_delivery,
    ending_task_done,
)
from tracing.handoff.patch import Patch, Patches, without_our_frame


def _get(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def get(self: queue.Queue[Any], block: bool = True, timeout: float | None = None) -> Any:
        if current_delivery() is not None and not isinstance(self, queue.LifoQueue):
            end_delivery()
        try:
            return original(self, block, timeout)
        except BaseException as error:
            without_our_frame(error)
            raise

    return get


thread_queues: Final = Patches()
thread_queues.add(
    Patch(queue.Queue, "_put", carrying_put(thread_queues, "queue")),
    Patch(queue.Queue, "_get", delivering_get(thread_queues)),
    Patch(queue.PriorityQueue, "_put", carrying_put(thread_queues, "queue")),
    Patch(queue.PriorityQueue, "_get", delivering_get(thread_queues)),
    Patch(queue.Queue, "get", _get),
    Patch(queue.Queue, "task_done", ending_task_done),
)
