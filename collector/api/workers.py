"""A bounded number of threads for work that blocks, and a bounded line in front of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from collector.errors import Overloaded

Result = TypeVar("Result")


class Workers:
    """Runs blocking calls off the event loop; refuses, rather than queues, beyond its bounds.

    Args:
        name: of the threads, and in the message when there is no room.
        threads_max: calls that run at once.
        waiting_max: calls that may wait for a thread.
    """

    def __init__(self, name: str, *, threads_max: int, waiting_max: int) -> None:
        self._name = name
        self._busy_max = threads_max + waiting_max
        self._threads = ThreadPoolExecutor(threads_max, thread_name_prefix=f"backtrail-{name}")
        self.busy = 0  # running or waiting; changed on the event loop only

    async def run(self, call: Callable[[], Result]) -> Result:
        """Run one call in a thread and return what it returns.

        Raises:
            Overloaded: the line is full. And whatever the call raises.
        """
        if self.busy >= self._busy_max:
            raise Overloaded(f"{self.busy} {self._name} requests are under way; try again", retry_after_s=1.0)
        self.busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        finally:
            self.busy -= 1

    def close(self) -> None:
        """Let what runs finish, drop what waits."""
        self._threads.shutdown(wait=True, cancel_futures=True)
