"""Whether records that come in also become visible: what `/readyz` says. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, NamedTuple

Status = Literal["ready", "starting", "stalled", "stopping"]


class Readiness(NamedTuple):
    """The state of the service, and why."""

    status: Status
    detail: str

    @property
    def is_ready(self) -> bool:
        """Whether a load balancer should send something here."""
        return self.status == "ready"


class Progress:
    """Notices when records wait and nothing moves.

    Args:
        stall_s: time without any progress, while something waits, after which it counts as stalled.
        clock_s: monotonic seconds.
    """

    def __init__(self, *, stall_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._stall_s = stall_s
        self._clock_s = clock_s
        self._done_seq = -1
        self._since_s = clock_s()

    def look(self, *, taken_seq: int, done_seq: int) -> Readiness:
        """Judge the present state; call it every second or so.

        Args:
            taken_seq: number of the last record in the write-ahead log.
            done_seq: number up to which everything can be found.
        """
        now_s = self._clock_s()
        if done_seq != self._done_seq or done_seq >= taken_seq:
            self._done_seq = done_seq
            self._since_s = now_s
        waiting = max(0, taken_seq - done_seq)
        stalled_s = now_s - self._since_s
        if waiting and stalled_s > self._stall_s:
            return Readiness(
                "stalled",
                f"{waiting} records are taken in and cannot be found, and nothing has moved for"
                f" {stalled_s:.0f} s; the log says why",
            )
        return Readiness("ready", f"{waiting} records wait to be indexed")
