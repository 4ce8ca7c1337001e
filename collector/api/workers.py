"""A bounded number of threads for work that blocks, and a bounded line in front of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from collector.deadline import check_deadline, within
from collector.errors import Overloaded, TookTooLong

Result = TypeVar("Result")

# For a call that gives up by itself, so that its own words are heard and not ours.
_GRACE_S: Final = 0.25


def _in_time(call: Callable[[], Result], timeout_s: float, since_s: float) -> Result:
    with within(timeout_s, since_s=since_s):
        check_deadline()  # all of it may have been spent in the line
        return call()


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

    async def run(self, call: Callable[[], Result], *, timeout_s: float | None = None) -> Result:
        """Run one call in a thread and return what it returns.

        Args:
            timeout_s: longest wait for it, its place in the line included. A thread that is still busy
                then ends as soon as it looks at the time (`collector.deadline`), and keeps its place until.
        Raises:
            Overloaded: the line is full. And whatever the call raises.
            TookTooLong: it did not end in time.
        """
        if self.busy >= self._busy_max:
            raise Overloaded(f"{self.busy} {self._name} requests are under way; try again", retry_after_s=1.0)
        self.busy += 1
        loop = asyncio.get_running_loop()
        if timeout_s is None:
            future = loop.run_in_executor(self._threads, call)
            future.add_done_callback(self._leave)
            return await future
        future = loop.run_in_executor(self._threads, _in_time, call, timeout_s, time.monotonic())
        future.add_done_callback(self._leave)
        done, _ = await asyncio.wait([future], timeout=timeout_s + _GRACE_S)
        if not done:
            raise TookTooLong(timeout_s)
        return future.result()

    def _leave(self, future: asyncio.Future[Result]) -> None:
        self.busy -= 1
        if not future.cancelled():
            future.exception()  # or asyncio would complain of one that nobody waits for any more

    def close(self) -> None:
        """Let what runs finish, drop what waits."""
        self._threads.shutdown(wait=True, cancel_futures=True)
