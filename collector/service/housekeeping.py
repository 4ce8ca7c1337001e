"""What nobody asks for and somebody must do: let go of what is older or larger than it may be."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from collector.errors import CollectorError
from collector.indexing import Indexer
from collector.settings import Settings
from collector.store.contract import Store

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 60.0  # a partition is a day, so a minute is soon enough
_DAY_NS: Final = 86_400 * 1_000_000_000
_WORK_TIMEOUT_S: Final = 30.0


@runtime_checkable
class Shrinkable(Protocol):
    """A store that knows its size on disk and can give up its oldest part."""

    def shrink_to(self, bytes_max: int) -> int:
        """Drop the oldest partitions until the rest takes no more; return how many records went."""
        ...


class Housekeeping:
    """Applies the retention of the settings, in a thread of its own.

    Args:
        indexer: does the work in its thread, which is the only one that may write to the store.
        settings: `retention_days` and `retention_bytes_max`; where both are unset nothing is ever dropped.
        clock_ns: now, epoch nanoseconds.
        interval_s: time between two looks.
    """

    def __init__(
        self,
        indexer: Indexer,
        settings: Settings,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._indexer = indexer
        self._days = settings.retention_days
        self._bytes_max = settings.retention_bytes_max
        self._clock_ns = clock_ns
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backtrail-housekeeping", daemon=True)
        self._counts: Counter[str] = Counter({"dropped.age": 0, "dropped.bytes": 0, "failures": 0})

    def start(self) -> None:
        """Begin; without any retention there is nothing to do, and no thread."""
        if self._days is not None or self._bytes_max is not None:
            self._thread.start()

    def stop(self) -> None:
        """End; what is under way is finished."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def stats(self) -> dict[str, int]:
        """Records dropped since the start by reason, and how often that failed."""
        return dict(self._counts)

    def look(self) -> None:
        """Drop what has to go, now.

        Raises:
            CollectorError: the store is busy or fails; the next look tries again.
        """
        dropped = self._indexer.perform(self._drop, timeout_s=_WORK_TIMEOUT_S)
        for reason, count in dropped.items():
            self._counts[f"dropped.{reason}"] += count
            logger.info("dropped %d records because of their %s", count, reason)

    def _drop(self, store: Store) -> dict[str, int]:
        dropped: dict[str, int] = {}
        if self._days is not None:
            dropped["age"] = store.drop_before(self._clock_ns() - int(self._days * _DAY_NS))
        if self._bytes_max is not None and isinstance(store, Shrinkable):
            dropped["bytes"] = store.shrink_to(self._bytes_max)
        return {reason: count for reason, count in dropped.items() if count}

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            try:
                self.look()
            except (CollectorError, OSError) as error:
                self._counts["failures"] += 1
                logger.warning("the retention has to wait: %s", error)
