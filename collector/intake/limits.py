"""How much one request may hold, and how long it may wait."""

from __future__ import annotations

from dataclasses import dataclass, field

from collector.admit import AdmitLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeLimits:
    """Bounds of one request."""

    unpacked_bytes_max: int = 64 * 1024**2
    # A sender whose earlier request is still under way has the next one wait for so long.
    turn_wait_s: float = 10.0
    admit: AdmitLimits = field(default_factory=AdmitLimits)
