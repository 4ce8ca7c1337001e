"""The loss ledger: what arrived of each sender, what is missing, and why."""

from __future__ import annotations

from collector.ledger.ledger import Ledger
from collector.ledger.limits import LedgerLimits
from collector.ledger.state import Hole, RequestState, SpoolState

__all__ = ["Hole", "Ledger", "LedgerLimits", "RequestState", "SpoolState"]
