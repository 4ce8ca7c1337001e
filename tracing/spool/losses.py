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

    __slots__ = ("_due_at_s", "_interval_s", "_pending", "totals")

    def __init__(self, interval_s: float) -> None:
        self.totals: dict[str, int] = dict.fromkeys(LOSS_REASONS, 0)
        self._pending: dict[str, Loss] = {}
        self._interval_s = interval_s
        self._due_at_s = 0.0

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

    def take_due(self, now_s: float) -> list[Loss]:
        """Hand over what is to be written down now; each loss is handed over once."""
        if not self._pending or now_s < self._due_at_s:
            return []
        self._due_at_s = now_s + self._interval_s
        due, self._pending = list(self._pending.values()), {}
        return due

    @property
    def is_any_pending(self) -> bool:
        """Whether a loss waits to be written down."""
        return bool(self._pending)
