"""Write-ahead log: what the collector has acknowledged is in here until the store has it."""

from __future__ import annotations

from collector.wal.frames import Envelope, WalBatch, WalFrame
from collector.wal.limits import WalLimits
from collector.wal.log import Wal

__all__ = ["Envelope", "Wal", "WalBatch", "WalFrame", "WalLimits"]
