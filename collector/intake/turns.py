"""Requests of one sender, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from collector.errors import Overloaded


class Turns:
    """One sender's requests, one after the other; different senders side by side."""

    _STRIPES: Final = 256  # senders that share one wait for each other at worst

    def __init__(self, wait_s: float) -> None:
        self._locks = [threading.Lock() for _ in range(self._STRIPES)]
        self._wait_s = wait_s

    @contextmanager
    def of(self, key: str) -> Iterator[None]:
        """Wait for one's turn, and have it for a while.

        Raises:
            Overloaded: it took too long.
        """
        lock = self._locks[hash(key) % self._STRIPES]
        if not lock.acquire(timeout=self._wait_s):
            raise Overloaded("an earlier request of this sender is still under way", retry_after_s=1.0)
        try:
            yield
        finally:
            lock.release()
