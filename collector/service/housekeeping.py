"""What nobody asks for and somebody must do: let go of what is older or larger than it may be.

What goes is counted by its reason: `age`, `bytes` (of the store), `debug` and `disk` (of the disk that runs
short: logs up to DEBUG first, the oldest first, then whole days, never the newest).
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from collector.errors import CollectorError, StoreFailed
from collector.indexing import Indexer
from collector.settings import Settings
from collector.store.contract import Store

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 60.0  # a partition is a day, so a minute is soon enough
_DAY_NS: Final = 86_400 * 1_000_000_000
_WORK_TIMEOUT_S: Final = 30.0
# Between two looks at the disk: what 10 000 records a second fill meanwhile is some 25 MB.
SHED_INTERVAL_S: Final = 5.0
_REASONS: Final = {
    "age": "their age",
    "bytes": "the size of the store",
    "debug": "a disk that runs short: logs up to DEBUG",
    "disk": "a disk that runs short: the oldest day",
}
_DEBUG_SEVERITY_MAX: Final = 8  # OpenTelemetry's DEBUG4; TRACE is below


@runtime_checkable
class Shrinkable(Protocol):
    """A store that knows its size on disk and can give up its oldest part."""

    def shrink_to(self, bytes_max: int) -> int:
        """Drop the oldest partitions until the rest takes no more; return how many records went."""
        ...


@runtime_checkable
class Sheddable(Protocol):
    """A store that can give up what is worth least. Any thread may ask it to."""

    def shed_logs(self, severity_max: int, is_stopping: Callable[[], bool]) -> int:
        """Take the logs up to a severity out of its oldest part that has any; how many went."""
        ...

    def drop_oldest_day(self) -> int:
        """Let go of the oldest day, unless it is the only one; how many records went."""
        ...

    def purge_beside(self, is_stopping: Callable[[], bool]) -> int:
        """Take the bytes of deleted records off the disk; how many parts of the store held any."""
        ...


class Housekeeping:
    """Applies the retention of the settings, in a thread of its own.

    Args:
        indexer: does the work in its thread, which is the only one that may write to the store.
        settings: `retention_days`, `retention_bytes_max` and `shed_free_bytes_min`; where all are unset
            nothing is ever dropped.
        store: what is shed from; `None`, or one that is not `Sheddable`: nothing is.
        tell: hears of what was dropped, by reason and count.
        free_bytes: room on the disk.
        clock_ns: now, epoch nanoseconds.
        interval_s: time between two looks.
    """

    def __init__(
        self,
        indexer: Indexer,
        settings: Settings,
        *,
        store: Store | None = None,
        tell: Callable[[str, int], None] = lambda reason, count: None,
        clock_ns: Callable[[], int] = time.time_ns,
        free_bytes: Callable[[], int] | None = None,
        interval_s: float = INTERVAL_S,
        shed_interval_s: float = SHED_INTERVAL_S,
    ) -> None:
        self._store = store if isinstance(store, Sheddable) else None
        self._free_bytes_min = settings.shed_free_bytes_min if self._store is not None else None
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(settings.data_dir).free)
        self._tell = tell
        self._shed_interval_s = shed_interval_s
        self._indexer = indexer
        self._days = settings.retention_days
        self._bytes_max = settings.retention_bytes_max
        self._clock_ns = clock_ns
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backtrail-housekeeping", daemon=True)
        self._counts: Counter[str] = Counter(
            {"dropped.age": 0, "dropped.bytes": 0, "dropped.debug": 0, "dropped.disk": 0, "failures": 0}
        )

    def start(self) -> None:
        """Begin; without any retention there is nothing to do, and no thread."""
        if not (self._days is None and self._bytes_max is None and self._free_bytes_min is None):
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
        if self._days is None and self._bytes_max is None:
            return
        for reason, count in self._indexer.perform(self._drop, timeout_s=_WORK_TIMEOUT_S).items():
            self._take_note(reason, count)

    def make_room(self) -> None:
        """Shed until there is room on the disk again, or nothing is left that may go.

        Raises:
            StoreFailed: the disk fails; the next look tries again.
        """
        if self._store is None or self._free_bytes_min is None or self._is_roomy():
            return
        self._store.purge_beside(self._stopping.is_set)  # what was deleted already goes first
        while not self._is_roomy() and not self._stopping.is_set():
            if count := self._shed_debug(self._store):
                self._take_note("debug", count)
            elif count := self._store.drop_oldest_day():
                self._take_note("disk", count)
            else:
                return

    def _is_roomy(self) -> bool:
        return self._free_bytes_min is None or self._free_bytes() >= self._free_bytes_min

    def _shed_debug(self, store: Sheddable) -> int:
        try:
            return store.shed_logs(_DEBUG_SEVERITY_MAX, self._stopping.is_set)
        except StoreFailed as error:
            logger.warning("no room to take single records out: %s", error)
            return 0

    def _take_note(self, reason: str, count: int) -> None:
        self._counts[f"dropped.{reason}"] += count
        logger.info("dropped %d records because of %s", count, _REASONS[reason])
        self._tell(_REASONS[reason], count)

    def _drop(self, store: Store) -> dict[str, int]:
        dropped: dict[str, int] = {}
        if self._days is not None:
            dropped["age"] = store.drop_before(self._clock_ns() - int(self._days * _DAY_NS))
        if self._bytes_max is not None and isinstance(store, Shrinkable):
            dropped["bytes"] = store.shrink_to(self._bytes_max)
        return {reason: count for reason, count in dropped.items() if count}

    def _run(self) -> None:
        pause_s = self._interval_s
        if self._free_bytes_min is not None:
            pause_s = min(pause_s, self._shed_interval_s)
        looked_s = time.monotonic()
        while not self._stopping.wait(pause_s):
            try:
                self.make_room()
                if time.monotonic() - looked_s >= self._interval_s:
                    looked_s = time.monotonic()
                    self.look()
            except (CollectorError, OSError) as error:
                self._counts["failures"] += 1
                logger.warning("the retention has to wait: %s", error)
