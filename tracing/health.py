"""What went wrong inside the library, counted; and the fuse that switches a failing hook off.

Nothing here locks: a signal handler or a fork may arrive between any two lines. Under the interpreter's
lock `counts[reason] += 1` is not interrupted, and a count that is one short under free threading is
a smaller harm than a deadlock.
"""

from __future__ import annotations

import sys
import time
from typing import Final
from weakref import WeakSet

# Why something was refused, cut or dropped: a closed list, so that each reason can be a counter's label.
REASONS: Final = (
    "malformed_traceparent",
    "malformed_tracestate",
    "malformed_baggage",
    "malformed_b3",
    "malformed_jaeger",
    "unreadable_carrier",
    "refused_remote_id",
    "correlation_id",
    "redacted",
    "message_not_formatted",
    "attributes_over_limit",
    "events_over_limit",
    "links_over_limit",
    "fields_over_limit",
    "field_of_wrong_type",
    "baggage_over_limit",
    "tracestate_over_limit",
    "message_attributes_full",
    "reentrant_record",
    "ended_span_changed",
    "hook_failed",
    "hook_off",
)

counts: Final[dict[str, int]] = dict.fromkeys(REASONS, 0)


def count(reason: str, amount: int = 1) -> None:
    """Add to one of the counters of `REASONS`."""
    counts[reason] += amount


_fuses: Final[WeakSet[Fuse]] = WeakSet()


def reset_fuses() -> None:
    """Switch every hook on again, for a new `configure()`."""
    for fuse in _fuses:
        fuse.reset()


class Fuse:
    """Counts the failures of one hook and blows when they come in a burst.

    A hook is any place where the program's control flow passes through our code. It asks `blown` before
    it works, and calls `failed` in its outermost `except`; the program never sees the error.
    """

    FAILURES_MAX: Final = 10  # a record in a thousand that we cannot encode is no reason to go blind,
    WINDOW_S: Final = 60.0  # ten in a minute mean that the hook itself is broken

    __slots__ = ("__weakref__", "_first_s", "_in_window", "blown", "name")

    def __init__(self, name: str) -> None:
        _fuses.add(self)
        self.name = name
        self.blown = False
        self._in_window = 0
        self._first_s = 0.0

    def failed(self, error: BaseException) -> None:
        """Count a failure; the last straw switches the hook off and says so once, on stderr."""
        count("hook_failed")
        if isinstance(error, RecursionError | MemoryError):
            return  # the program is at its own limit, which says nothing about the hook
        now_s = time.monotonic()
        if now_s - self._first_s > self.WINDOW_S:
            self._first_s, self._in_window = now_s, 0
        self._in_window += 1
        if self._in_window < self.FAILURES_MAX or self.blown:
            return
        self.blown = True
        count("hook_off")
        self._say(error)

    def reset(self) -> None:
        """Put the fuse back."""
        self.blown = False
        self._in_window = 0

    def _say(self, error: BaseException) -> None:
        # Not through logging: the hook that failed may be the one inside logging.
        try:
            sys.stderr.write(
                f"backtrail: {self.name} failed {self._in_window} times within {self.WINDOW_S:.0f} s "
                f"and is off until the next configure(); last error: {type(error).__name__}: {error}\n"
            )
        except Exception:
            pass  # no stderr (daemon) or an error whose __str__ raises: there is nobody to tell
