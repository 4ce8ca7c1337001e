"""The write-ahead log and the ledger, opened together: only so do they agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from collector.ledger import Ledger, LedgerLimits
from collector.wal import Wal, WalLimits


def open_log(
    directory: Path,
    *,
    durable_seq: int,
    wal_limits: WalLimits | None = None,
    ledger_limits: LedgerLimits | None = None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> tuple[Wal, Ledger]:
    """Open the write-ahead log and the ledger of a data directory, the ledger up to date with the log.

    Args:
        directory: holds `wal/` and `ledger.sqlite`; the caller has the lock on it.
        durable_seq: the highest number that the store has, so that none is given out twice.
    Raises:
        OSError, sqlite3.Error: the directory cannot be used.
    """
    ledger = Ledger.open(directory, limits=ledger_limits, clock_ns=clock_ns)
    try:
        wal = Wal.open(
            directory / "wal",
            limits=wal_limits,
            seq_after=max(durable_seq, ledger.seq),
            observer=ledger.apply,
        )
    except BaseException:
        ledger.close()
        raise
    ledger.replay(wal)
    return wal, ledger
