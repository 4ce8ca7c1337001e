"""How many bulks may be on their way at once: one more with success, half with every sign of strain.

Additive increase and multiplicative decrease find what a server takes without knowing it, and share it
between several collectors. Source: Chiu and Jain 1989, "Analysis of the Increase and Decrease Algorithms
for Congestion Avoidance in Computer Networks".
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class InFlight:
    """A gate that lets so many through; safe to use from several threads."""

    def __init__(self, *, least: int, start: int, most: int, slow_s: float) -> None:
        """Set the limits.

        Args:
            least, start, most: bulks at once.
            slow_s: a bulk that takes longer is a sign of strain.
        """
        self._least, self._most, self._slow_s = least, most, slow_s
        self._limit = float(start)
        self._inside = 0
        self._changed = threading.Condition()

    @property
    def limit(self) -> float:
        """How many may be inside now; a whole number of them is let in."""
        return self._limit

    @property
    def inside(self) -> int:
        """How many are."""
        return self._inside

    @contextmanager
    def one(self) -> Iterator[None]:
        """Wait for room, and take it for the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._inside < int(self._limit))
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify()

    def succeeded(self, seconds: float) -> None:
        """A bulk was taken; let a little more in, or less when it took long."""
        if seconds > self._slow_s:
            self.strained()
            return
        with self._changed:
            self._limit = min(self._limit + 1 / self._limit, float(self._most))
            self._changed.notify()

    def strained(self) -> None:
        """The server was busy."""
        with self._changed:
            self._limit = max(self._limit / 2, float(self._least))

    def failed(self) -> None:
        """Nobody answered: begin again carefully, so that no backlog falls on a server that just came up."""
        with self._changed:
            self._limit = float(self._least)
