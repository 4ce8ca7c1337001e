"""How much the ledger remembers, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLimits:
    """Bounds of the ledger; all of it is counted, none of it is needed to find records.

    Raises:
        ValueError: a bound is not positive.
    """

    # A request of a sender without positions that comes again within the window is the same request.
    # OpenTelemetry's exporters give up after about a minute, a relay with a queue after some minutes.
    foreign_dedupe_window_s: float = 3600.0
    foreign_requests_max: int = 50_000  # remembered at once: about 10 MB
    # A spool that was silent for so long is forgotten; its agent deletes what was acknowledged at once,
    # so that only a disk that comes back from a month in a drawer could send something twice.
    forget_spool_after_s: float = 30 * 86_400.0
    doubt_s: float = 86_400.0  # after a damaged ledger was set aside, repetitions are looked up for so long
    spools_in_memory_max: int = 20_000  # the rest is looked up in the file
    # After the last record of a trace arrived, others of running processes may be under way for so long:
    # twice the time in which a shipper sends what is new.
    settle_s: float = 2.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive")
