"""Whether records that come in also become visible: what `/readyz` says. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

Status = Literal["ready", "full", "stalled", "stopping"]

# Senders come back every few seconds while there is no room; silence for so long says nothing any more.
REFUSAL_REMEMBERED_S: Final = 15.0


class Readiness(NamedTuple):
    """The state of the service, and why."""

    status: Status
    detail: str

    @property
    def is_ready(self) -> bool:
        """Whether a load balancer should send something here."""
        return self.status == "ready"


class Progress:
    """Notices when records wait and nothing moves, and when there is no room for more.

    Args:
        stall_s: time without any progress, while something waits, after which it counts as stalled.
        clock_s: monotonic seconds.
    """

    def __init__(self, *, stall_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._stall_s = stall_s
        self._clock_s = clock_s
        self._done_seq = self._taken_seq = -1
        self._moved_s = self._taken_s = clock_s()
        self._refused = 0
        self._refused_s = float("-inf")

    def look(self, *, taken_seq: int, done_seq: int, refused: int = 0, hold: str | None = None) -> Readiness:
        """Judge the present state; call it every second or so.

        Args:
            taken_seq: number of the last record in the write-ahead log.
            done_seq: number up to which everything can be found.
            refused: how often something was refused because there was no room.
            hold: why the store waits for a person, in a sentence; `None`: it does not.
        """
        now_s = self._clock_s()
        if done_seq != self._done_seq or done_seq >= taken_seq:
            self._done_seq, self._moved_s = done_seq, now_s
        if refused > self._refused:
            self._refused, self._refused_s = refused, now_s
        if taken_seq != self._taken_seq:
            self._taken_seq, self._taken_s = taken_seq, now_s
        waiting = max(0, taken_seq - done_seq)
        stalled_s = now_s - self._moved_s
        if waiting and stalled_s > self._stall_s:
            return Readiness(
                "stalled",
                f"{waiting} records are taken in and cannot be found, and nothing has moved for"
                f" {stalled_s:.0f} s; {f'held: {hold}' if hold else 'the log says why'}",
            )
        # Both within one look: nobody knows which came last, and a refusal is what should be heard of.
        if self._refused_s >= self._taken_s and now_s - self._refused_s < REFUSAL_REMEMBERED_S:
            return Readiness(
                "full",
                "senders are refused: the write-ahead log or the disk is full; they keep what they have",
            )
        held = f"; held: {hold}" if hold else ""
        return Readiness("ready", f"{waiting} records wait to be indexed{held}")
