"""What is missing from a spool and why: counted at once, written down as loss lines a little later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tracing.spool.format import LOSS_REASONS
from tracing.spool.limits import SHED_DEBUG_SHARE, SHED_INFO_SHARE

# OpenTelemetry severity numbers: what is below is no longer taken.
KEEP_ALL: Final = 0
KEEP_INFO: Final = 9
KEEP_WARN: Final = 13
KEEP_NONE: Final = 25

# How often a loss line may be added to a spool that is over its bound: 200 KB a day, whatever is logged.
INTERVAL_WHEN_FULL_S: Final = 60.0


def severity_floor(used_bytes: int, bytes_max: int) -> int:
    """Return the severity number below which lines are shed: DEBUG first, then INFO, then all."""
    if used_bytes < SHED_DEBUG_SHARE * bytes_max:
        return KEEP_ALL
    if used_bytes < SHED_INFO_SHARE * bytes_max:
        return KEEP_INFO
    return KEEP_WARN if used_bytes < bytes_max else KEEP_NONE


@dataclass(slots=True)
class Loss:
    """`count` records are missing between the offsets `begin` and `end`."""

    reason: str  # a word of `LOSS_REASONS`
    count: int
    begin: int
    end: int


class Losses:
    """Counts by reason, and what of them no loss line has said yet. Not thread-safe."""

    __slots__ = ("_interval_s", "_pending", "_written_at_s", "totals")

    def __init__(self, interval_s: float) -> None:
        self.totals: dict[str, int] = dict.fromkeys(LOSS_REASONS, 0)
        self._pending: dict[str, Loss] = {}
        self._interval_s = interval_s
        self._written_at_s = float("-inf")

    def note(self, reason: str, count: int, begin: int, end: int) -> None:
        """Count a loss; losses of one reason that are not written down yet become one."""
        self.totals[reason] += count
        pending = self._pending.get(reason)
        if pending is None:
            self._pending[reason] = Loss(reason, count, begin, end)
        else:
            pending.count += count
            pending.begin = min(pending.begin, begin)
            pending.end = max(pending.end, end)

    def take_due(self, now_s: float, *, is_full: bool = False) -> list[Loss]:
        """Hand over what is to be written down now; each loss is handed over once.

        Args:
            now_s: of a monotonic clock.
            is_full: loss lines are all that is still written, so they come less often.
        """
        interval_s = max(self._interval_s, INTERVAL_WHEN_FULL_S) if is_full else self._interval_s
        if not self._pending or now_s < self._written_at_s + interval_s:
            return []
        return self.take_all(now_s)

    def take_all(self, now_s: float) -> list[Loss]:
        """Hand over everything that no loss line has said yet."""
        self._written_at_s = now_s
        due, self._pending = list(self._pending.values()), {}
        return due

    def pending(self) -> list[Loss]:
        """Return what no loss line has said yet, a loss a reason; it stays to be handed over."""
        return list(self._pending.values())

    @property
    def is_any_pending(self) -> bool:
        """Whether a loss waits to be written down."""
        return bool(self._pending)
